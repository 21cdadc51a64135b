//! `connectSettings` on its way to a connector (<https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/connect/get>, `ConnectSettings`).

use bytes::Bytes;
use holdpoint_core::{
    operation::Operation,
    refusal::{Kind, Refusal},
};
use http::{StatusCode, header, response};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use serde_json::{Value, json};

use super::{SETTINGS, instance_of};
use crate::{binding::Room, daemon::House, masking::Received, tls::Connector};

/// Bytes of an answer. Real ones have a few thousand.
const LIMIT: usize = 256 << 10;

/// An answer as it is passed on: that to `connectSettings` of an instance that has a `[[connection]]` names our CA as the instance's, and where the instance is
/// is remembered for the session. All others are left as they are.
///
/// # Errors
/// When it cannot be read: a connector must not be told of another CA than ours.
pub async fn rewrite(
    house: &House,
    room: &Room,
    request: Option<&Operation>,
    head: &mut response::Parts,
    body: Received,
) -> Result<Received, Refusal> {
    let Some((project, id)) = request
        .filter(|it| it.action.id() == SETTINGS && head.status == StatusCode::OK)
        .and_then(|it| instance_of(&it.resource.name))
    else {
        return Ok(body);
    };
    let Some(entry) = house.databases.of_instance(project, id) else {
        return Ok(body);
    };
    let withheld = |why: String| {
        Refusal::new(
            Kind::Withheld,
            format!(
                "Holdpoint cannot read Google's answer about the instance {project}:{id}, so its connector is told nothing: {why}"
            ),
        )
    };
    let collected = Limited::new(body, LIMIT).collect().await;
    let bytes = collected
        .map_err(|error| withheld(error.to_string()))?
        .to_bytes();
    let mut settings: Value = serde_json::from_slice(&bytes)
        .map_err(|error| withheld(format!("{error} (ask for plain JSON)")))?;
    if !settings.is_object() {
        return Err(withheld("it is no JSON object".to_owned()));
    }
    let told = Told::of(&settings);
    room.instances.learn(entry, told.hosts, &told.dns_names);
    put_our_ca(&mut settings, &house.connector, &format!("{project}:{id}"));
    for name in [
        header::CONTENT_LENGTH,
        header::ETAG,
        header::CONTENT_ENCODING,
    ] {
        head.headers.remove(name);
    }
    let made = Bytes::from(settings.to_string());
    head.headers
        .insert(header::CONTENT_LENGTH, made.len().into());
    Ok(Either::Right(Full::new(made)))
}

/// What settings say of where an instance is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    hosts: Vec<String>,
    dns_names: Vec<String>,
}

impl Told {
    fn of(settings: &Value) -> Self {
        let listed = |list: &str, field: &'static str| {
            let items = settings[list].as_array().cloned().unwrap_or_default();
            items
                .into_iter()
                .filter_map(move |item| item[field].as_str().map(str::to_owned))
        };
        let plain = |name: String| name.trim_end_matches('.').to_ascii_lowercase();
        let mut dns_names: Vec<_> = listed("dnsNames", "name").map(plain).collect();
        dns_names.extend(
            settings["dnsName"]
                .as_str()
                .map(|name| plain(name.to_owned())),
        );
        dns_names.retain(|name| !name.is_empty());
        dns_names.dedup();
        let addresses = listed("ipAddresses", "ipAddress").filter_map(|ip| {
            let ip: std::net::IpAddr = ip.parse().ok()?;
            Some(ip.to_canonical().to_string())
        });
        Self {
            hosts: addresses.chain(dns_names.iter().cloned()).collect(),
            dns_names,
        }
    }
}

/// Whatever mode the instance's CA is in, our leaf has the common name and the DNS names that connectors look for.
fn put_our_ca(settings: &mut Value, connector: &Connector, common_name: &str) {
    let (from, until) = connector.validity().unzip();
    let time = |time: Option<jiff::Timestamp>| time.map(|it| it.to_string()).unwrap_or_default();
    settings["serverCaCert"] = json!({
        "kind": "sql#sslCert",
        "cert": connector.pem(),
        "certSerialNumber": "0",
        "commonName": "Holdpoint CA for Cloud SQL",
        "createTime": time(from),
        "expirationTime": time(until),
        "sha1Fingerprint": connector.fingerprint(),
        "instance": common_name.rsplit(':').next().unwrap_or_default(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_tell_where_an_instance_is() {
        let told = Told::of(&json!({
            "ipAddresses": [{"type": "PRIMARY", "ipAddress": "203.0.113.10"}, {"type": "PRIVATE", "ipAddress": "10.0.0.5"}, {"ipAddress": "x"}, {}],
            "dnsName": "abc.def.us-central1.sql.goog.",
            "dnsNames": [{"name": "ABC.sql-psc.goog."}],
        }));
        assert_eq!(
            told.hosts,
            [
                "203.0.113.10",
                "10.0.0.5",
                "abc.sql-psc.goog",
                "abc.def.us-central1.sql.goog"
            ]
        );
        assert_eq!(
            Told::of(&json!({"ipAddresses": 1, "dnsNames": "x"})),
            Told::default()
        );
    }

    #[test]
    fn the_ca_is_ours_and_the_rest_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let connector = Connector::open(dir.path()).expect("made");
        let mut settings = json!({"region": "r", "serverCaCert": {"cert": "Google's", "extra": 1}});
        put_our_ca(&mut settings, &connector, "p:i");
        assert_eq!(settings["serverCaCert"]["cert"], connector.pem());
        assert_eq!(settings["region"], "r");
        assert!(!settings.to_string().contains("Google's"));
    }
}
