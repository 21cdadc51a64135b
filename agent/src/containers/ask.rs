//! What of Docker's Engine API a session may ask for: an allow-list (<https://docs.docker.com/reference/api/engine/>).

use std::fmt;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a client calls a container, an exec or an image.
const MOST_NAME: usize = 256;
/// Bytes of one parameter's value.
const MOST_VALUE: usize = 1024;

/// What goes into a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A container or exec as a client names it: its name, its id or the beginning of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// None when it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut characters = text.bytes();
        let first = characters.next()?.is_ascii_alphanumeric();
        let rest = characters.all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it));
        (first && rest && text.len() <= MOST_NAME).then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is done with a container that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Inspect,
    Start,
    Restart,
    Stop,
    Kill,
    Wait,
    Logs,
    Top,
    Attach,
    Resize,
    Remove,
    Exec,
}

/// What is done with a command in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecAct {
    Inspect,
    Start,
    Resize,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Ping,
    Version,
    Info,
    Images,
    Image(String),
    List { all: bool },
    Create { name: Option<Name> },
    Container(Act, Name, Parameters),
    Exec(ExecAct, Name, Parameters),
}

/// Those of a query that the act knows, ready to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// With its question mark, where there are any.
    pub fn query(&self) -> String {
        let encoded = |(name, value): &(&str, String)| {
            format!("{name}={}", utf8_percent_encode(value, PLAIN))
        };
        match self.0.as_slice() {
            [] => String::new(),
            some => format!(
                "?{}",
                some.iter().map(encoded).collect::<Vec<_>>().join("&")
            ),
        }
    }
}

impl Act {
    /// Method, last part of the path, and the parameters it may have.
    const fn form(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Inspect => ("GET", "json", &["size"]),
            Self::Start => ("POST", "start", &["detachKeys"]),
            Self::Restart => ("POST", "restart", &["t", "signal"]),
            Self::Stop => ("POST", "stop", &["t", "signal"]),
            Self::Kill => ("POST", "kill", &["signal"]),
            Self::Wait => ("POST", "wait", &["condition"]),
            Self::Logs => (
                "GET",
                "logs",
                &[
                    "follow",
                    "stdout",
                    "stderr",
                    "since",
                    "until",
                    "timestamps",
                    "tail",
                ],
            ),
            Self::Top => ("GET", "top", &[]),
            Self::Attach => (
                "POST",
                "attach",
                &["detachKeys", "logs", "stream", "stdin", "stdout", "stderr"],
            ),
            Self::Resize => ("POST", "resize", &["h", "w"]),
            Self::Remove => ("DELETE", "", &["v", "force"]),
            Self::Exec => ("POST", "exec", &[]),
        }
    }

    const ALL: [Self; 12] = [
        Self::Inspect,
        Self::Start,
        Self::Restart,
        Self::Stop,
        Self::Kill,
        Self::Wait,
        Self::Logs,
        Self::Top,
        Self::Attach,
        Self::Resize,
        Self::Remove,
        Self::Exec,
    ];

    /// The verb.
    pub fn method(self) -> Method {
        // All of the table's are tokens.
        Method::from_bytes(self.form().0.as_bytes()).unwrap_or_default()
    }

    /// Where the engine takes it, for a container by its id.
    pub fn path(self, id: &str) -> String {
        match self.form().1 {
            "" => format!("/containers/{id}"),
            last => format!("/containers/{id}/{last}"),
        }
    }
}

impl ExecAct {
    const ALL: [Self; 3] = [Self::Inspect, Self::Start, Self::Resize];

    const fn form(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Inspect => ("GET", "json", &[]),
            Self::Start => ("POST", "start", &[]),
            Self::Resize => ("POST", "resize", &["h", "w"]),
        }
    }

    /// The verb.
    pub fn method(self) -> Method {
        Method::from_bytes(self.form().0.as_bytes()).unwrap_or_default()
    }

    /// Where the engine takes it.
    pub fn path(self, id: &str) -> String {
        format!("/exec/{id}/{}", self.form().1)
    }
}

/// Why something is not passed on: for the client, whole sentences.
pub type Refusal = String;

impl Ask {
    /// Reads a request's first line.
    ///
    /// # Errors
    /// When it is not one that a session may make.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let path = unversioned(path);
        let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let refused = || advice(method, path);
        let query = |known| parameters(query.unwrap_or_default(), known);
        let flag = |parameters: &Parameters| {
            let on = |(_, value): &(&str, String)| !["", "0", "false"].contains(&value.as_str());
            parameters.0.iter().any(on)
        };
        match (method.as_str(), parts.as_slice()) {
            ("GET" | "HEAD", ["_ping"]) => Ok(Self::Ping),
            ("GET", ["version"]) => Ok(Self::Version),
            ("GET", ["info"]) => Ok(Self::Info),
            ("GET", ["images", "json"]) => Ok(Self::Images),
            ("GET", ["images", name @ .., "json"]) => image(&name.join("/")).map(Self::Image),
            ("GET", ["containers", "json"]) => Ok(Self::List {
                all: flag(&query(&["all"])?),
            }),
            ("POST", ["containers", "create"]) => {
                let named = query(&["name"])?;
                let name = named.0.first().map(|(_, name)| container(name));
                Ok(Self::Create {
                    name: name.transpose()?,
                })
            }
            (verb, ["containers", name, rest @ ..]) => {
                let last = match rest {
                    [] => "",
                    [one] => one,
                    _ => return Err(refused()),
                };
                let is_it = |act: &Act| (act.form().0, act.form().1) == (verb, last);
                let act = Act::ALL.into_iter().find(is_it).ok_or_else(refused)?;
                Ok(Self::Container(act, container(name)?, query(act.form().2)?))
            }
            (verb, ["exec", name, last]) => {
                let is_it = |act: &ExecAct| (act.form().0, act.form().1) == (verb, *last);
                let act = ExecAct::ALL.into_iter().find(is_it).ok_or_else(refused)?;
                Ok(Self::Exec(act, container(name)?, query(act.form().2)?))
            }
            _ => Err(refused()),
        }
    }
}

/// Clients put the version they have agreed on before the path; it decides about nothing that is passed on.
fn unversioned(path: &str) -> &str {
    let Some((version, _)) = path
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'))
    else {
        return path;
    };
    let is_version = version.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    match is_version {
        true => &path[2 + version.len()..],
        false => path,
    }
}

fn container(text: &str) -> Result<Name, Refusal> {
    Name::parse(text).ok_or_else(|| "that is no name or id of a container".into())
}

/// `registry.example:5000/path/name:tag@sha256:...`, in its characters.
pub fn image(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    let name = decoded.map_err(|_| "that is no name of an image")?;
    let fits = |it: u8| it.is_ascii_alphanumeric() || b"_.-/:@".contains(&it);
    let plain = !name.is_empty()
        && name.len() <= MOST_NAME
        && name.bytes().all(fits)
        && name.split('/').all(|part| !["", ".", ".."].contains(&part));
    match plain {
        true => Ok(name.into_owned()),
        false => Err("that is no name of an image".into()),
    }
}

/// Those it knows. Others would change what is done in a way that is not known here.
fn parameters(query: &str, known: &'static [&'static str]) -> Result<Parameters, Refusal> {
    let mut found = Parameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let spaced = value.replace('+', " ");
        let value = percent_decode_str(&spaced)
            .decode_utf8()
            .map_err(|_| "a parameter is not text")?;
        // What clients send along without meaning anything by it.
        if value.is_empty() || value == "{}" {
            continue;
        }
        let Some(name) = known.iter().find(|known| **known == name) else {
            return Err(format!(
                "the parameter {name:?} is not known here: leave it out"
            ));
        };
        if value.len() > MOST_VALUE || found.0.iter().any(|(other, _)| other == name) {
            return Err(format!(
                "the parameter {name:?} is too long, or there twice"
            ));
        }
        found.0.push((name, value.into_owned()));
    }
    Ok(found)
}

fn advice(method: &Method, path: &str) -> Refusal {
    let first = path.split('/').find(|part| !part.is_empty());
    match (first, path.rsplit('/').next()) {
        (Some("images"), Some("create")) => {
            "images are not pulled for sessions: the engine would fetch them from outside of the sandbox, where no policy \
             decides. Ask the operator to pull it on the host beforehand"
        }
        (Some("build" | "session" | "grpc" | "commit" | "images"), _) => {
            "images are made, loaded and changed outside of sessions only: ask the operator, or build in the session with a tool that needs no engine"
        }
        (Some("networks"), _) => {
            "containers of a session are in the session's own network, and there is no other: leave networks out"
        }
        (Some("volumes"), _) => {
            "there are no volumes for sessions: mount a directory of the session's instead (-v \"$PWD/data:/data\")"
        }
        (Some("containers"), Some("archive" | "export")) => {
            "files are not copied by the engine: mount a directory of the session's instead (-v \"$PWD:/work\")"
        }
        (Some("libpod"), _) => {
            "this is Docker's Engine API; podman's own is not served: use a docker client"
        }
        _ => return format!("{method} {} is not among what sessions may ask of the container engine", shown(path)),
    }
    .into()
}

fn shown(path: &str) -> String {
    path.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(method: &str, target: &str) -> Result<Ask, Refusal> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        Ask::parse(&method, path, query)
    }

    #[test]
    fn what_docker_run_asks_for_is_known() {
        let name = Name::parse("0123abc").expect("a name");
        assert_eq!(parse("HEAD", "/_ping"), Ok(Ask::Ping));
        assert_eq!(
            parse("POST", "/v1.41/containers/create"),
            Ok(Ask::Create { name: None })
        );
        let wait =
            parse("POST", "/v1.41/containers/0123abc/wait?condition=next-exit").expect("known");
        let Ask::Container(Act::Wait, named, parameters) = wait else {
            panic!("{wait:?}");
        };
        assert_eq!(
            (named, parameters.query().as_str()),
            (name.clone(), "?condition=next-exit")
        );
        let removed = parse("DELETE", "/containers/0123abc?force=1&v=1").expect("known");
        assert!(matches!(removed, Ask::Container(Act::Remove, _, _)));
        assert_eq!(Act::Remove.path("x"), "/containers/x");
        let image = parse("GET", "/v1.41/images/registry.example:5000/a/b:1/json");
        assert_eq!(image, Ok(Ask::Image("registry.example:5000/a/b:1".into())));
        assert_eq!(
            parse("GET", "/containers/json?all=1"),
            Ok(Ask::List { all: true })
        );
    }

    #[test]
    fn all_else_is_refused() {
        for (method, target) in [
            ("POST", "/v1.41/images/create?fromImage=alpine&tag=latest"),
            ("POST", "/build?t=x"),
            ("POST", "/networks/create"),
            ("POST", "/volumes/create"),
            ("PUT", "/containers/a/archive?path=/"),
            ("GET", "/containers/a/archive?path=/"),
            ("GET", "/containers/a/export"),
            ("POST", "/containers/a/update"),
            ("POST", "/containers/a/rename?name=b"),
            ("POST", "/containers/a/checkpoints"),
            ("POST", "/containers/prune"),
            ("POST", "/commit?container=a"),
            ("POST", "/plugins/pull"),
            ("POST", "/swarm/init"),
            ("GET", "/events"),
            ("GET", "/system/df"),
            ("POST", "/v4.0.0/libpod/containers/create"),
            ("POST", "/session"),
            ("GET", "//containers/json"),
            ("GET", "/containers/../images/json"),
            ("GET", "/containers/a%2f..%2fb/json"),
            ("GET", "/containers/json?filters=%7B%22a%22:1%7D"),
            ("DELETE", "/containers/a?link=1"),
            ("GET", "/images/../../x/json"),
            ("GET", "/images/%2e%2e/json"),
            ("GET", "/images//json"),
            ("POST", "/containers/create?name=a/../b"),
            ("POST", "/containers/create?name=a&name=b"),
        ] {
            let parsed = parse(method, target);
            assert!(parsed.is_err(), "{method} {target}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn a_target_that_is_passed_on_means_one_container(path in "/(v1\\.4[0-9]/)?containers/.{0,40}", method in "GET|POST|PUT|DELETE") {
            if let Ok(Ask::Container(act, name, parameters)) = parse(&method, &path) {
                let target = act.path(name.as_str()) + &parameters.query();
                let uri: http::Uri = target.parse().expect("a target");
                prop_assert_eq!(uri.path().split('/').nth(2), Some(name.as_str()));
                prop_assert!(uri.path().split('/').count() <= 4);
            }
        }
    }
}
