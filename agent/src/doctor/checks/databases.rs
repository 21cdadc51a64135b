//! The databases of the catalog: can Holdpoint log in there, and for how long?

use std::{path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Finding;
use crate::{
    config::{
        Config,
        connection::{Connection, TlsMode},
    },
    credential::Credentials,
    postgres::{
        Entry,
        server::{self, ServerLink},
        startup::Settings,
    },
    upstream::Upstream,
};

const SUBJECT: &str = "database";
/// A certificate that ends sooner is worth a word: what it takes to rotate Cloud SQL's is a restart.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Logs in to each.
pub async fn check(config: &Config) -> Vec<Finding> {
    let ready = Upstream::new(&config.upstream).and_then(|upstream| {
        let credentials = Credentials::new(&config.google, upstream.clone())?;
        Ok((Arc::new(credentials), upstream))
    });
    // What is wrong with those, other checks have said.
    let Ok((credentials, upstream)) = ready else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for connection in &config.connections {
        findings.push(
            match Entry::new(connection, credentials.clone(), &upstream) {
                Ok(entry) => log_in(connection, &entry).await,
                Err(error) => unusable(connection, &error),
            },
        );
        findings.extend(
            connection
                .ca_file
                .as_deref()
                .and_then(|it| ending(connection, it)),
        );
    }
    findings
}

async fn log_in(connection: &Connection, entry: &Entry) -> Finding {
    let name = &connection.name;
    let place = &entry.place;
    // "postgres" is there after initdb, and on Cloud SQL.
    let database = entry.databases.first().map_or("postgres", String::as_str);
    let settings = Settings::called("holdpoint doctor");
    match server::connect(entry, database, &settings).await {
        Err(error) => Finding::fail(
            SUBJECT,
            format!("\"{name}\" at {place}: {error}"),
            format!(
                "correct [[connection]] \"{name}\", or the server: sessions are told that they cannot connect"
            ),
        ),
        Ok(link) => {
            let says = describe(name, &link, database);
            match connection.tls {
                TlsMode::VerifyFull | TlsMode::VerifyCa => Finding::ok(SUBJECT, says),
                TlsMode::Unverified | TlsMode::Off => Finding::warn(
                    SUBJECT,
                    format!("{says}; whoever is in between can read and change everything"),
                    "use tls = \"verify-full\", with the server's CA as ca_file",
                ),
            }
        }
    }
}

fn describe(name: &str, link: &ServerLink, database: &str) -> String {
    let version = link.parameters.get("server_version");
    let version = version.map_or("(no version)", String::as_str);
    format!(
        "\"{name}\": logged in as {} to {database}, PostgreSQL {version}",
        link.user
    )
}

fn unusable(connection: &Connection, error: &anyhow::Error) -> Finding {
    let name = &connection.name;
    Finding::fail(
        SUBJECT,
        format!("\"{name}\": {error:#}"),
        format!("correct [[connection]] \"{name}\": the daemon does not start so"),
    )
}

/// The certificate in a `ca_file` that ends first, where that is soon.
fn ending(connection: &Connection, file: &Path) -> Option<Finding> {
    let pem = std::fs::read(file).ok()?;
    let ends = CertificateDer::pem_slice_iter(&pem).flatten();
    let first = ends.filter_map(|it| not_after(&it)).min()?;
    let left = first.duration_since(Timestamp::now());
    if left > SOON {
        return None;
    }
    let ends = if left.is_negative() { "ended" } else { "ends" };
    Some(Finding::warn(
        SUBJECT,
        format!(
            "\"{}\": a certificate in {} {ends} on {}",
            connection.name,
            file.display(),
            first.strftime("%Y-%m-%d")
        ),
        "get the server's new CA certificate, append it to the file, and restart the daemon before the server's own is replaced",
    ))
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_told() {
        let until = |days: i64| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut parameters = rcgen::CertificateParams::new(vec!["db".into()]).expect("a name");
            parameters.not_after =
                (std::time::SystemTime::now() + std::time::Duration::from_secs(86400 * 400)).into();
            parameters.not_after -=
                std::time::Duration::from_secs(86400) * u32::try_from(400 - days).expect("days");
            let file = tempfile::NamedTempFile::new().expect("a file");
            let certificate = parameters.self_signed(&key).expect("a certificate");
            std::fs::write(file.path(), certificate.pem()).expect("a file");
            let connection =
                toml::from_str("name = 'a'\naddresses = ['a:5432']\nuser = 'u'").expect("a table");
            ending(&connection, file.path()).map(|it| it.says)
        };
        assert_eq!(until(60), None);
        assert!(until(20).is_some_and(|says| says.contains(" ends on ")));
        assert!(until(-5).is_some_and(|says| says.contains(" ended on ")));
    }
}
