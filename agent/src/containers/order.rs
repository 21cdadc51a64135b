//! What a client orders a container, or a command in one, to be: read by an allow-list, and written anew for the engine.
//!
//! Clients send every field there is, most of them empty. What has a meaning here is taken out; of the rest, whatever is not empty is refused.

mod why_not;

use serde_json::{Map, Value, json};
use why_not::why_not;

use super::{
    ask::{Refusal, image},
    bind::{self, Bind},
};
use crate::session::{SessionId, User};

/// The label that says whose a container is.
pub const SESSION_LABEL: &str = "dev.holdpoint.session";
/// The label that says what of the session it shows.
pub const BINDS_LABEL: &str = "dev.holdpoint.binds";
const OWN_LABELS: &str = "dev.holdpoint.";

/// What a container is given of shared memory, and so what a client may ask for.
const MOST_SHARED_MEMORY: u64 = 1 << 30;

/// Fields that are passed on as they are, when they are of this kind.
const PASSED: [(&str, Kind); 12] = [
    ("AttachStdin", Kind::Flag),
    ("AttachStdout", Kind::Flag),
    ("AttachStderr", Kind::Flag),
    ("OpenStdin", Kind::Flag),
    ("StdinOnce", Kind::Flag),
    ("Tty", Kind::Flag),
    ("Cmd", Kind::Texts),
    ("Entrypoint", Kind::Texts),
    ("Env", Kind::Texts),
    ("Hostname", Kind::Text),
    ("StopSignal", Kind::Text),
    ("StopTimeout", Kind::Number),
];
const PASSED_TO_EXEC: [(&str, Kind); 7] = [
    ("AttachStdin", Kind::Flag),
    ("AttachStdout", Kind::Flag),
    ("AttachStderr", Kind::Flag),
    ("Tty", Kind::Flag),
    ("Cmd", Kind::Texts),
    ("Env", Kind::Texts),
    ("DetachKeys", Kind::Text),
];
/// What means nothing for a container that has no other rights or networks to lose, or only says how its client draws.
const WITHOUT_MEANING: [&str; 6] = [
    "ExposedPorts",
    "CapDrop",
    "ConsoleSize",
    "Domainname",
    "MaskedPaths",
    "ReadonlyPaths",
];

#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Text,
    Texts,
    Number,
}

/// A container, as the engine is told of it and as Holdpoint remembers it.
#[derive(Debug)]
pub struct Order {
    /// For the engine.
    pub body: Value,
    /// The image.
    pub image: String,
    /// The command, as far as the client says.
    pub command: Vec<String>,
}

/// Reads the body of `POST /containers/create`.
///
/// # Errors
/// When it is anything else than a container that has no more than its session has.
pub fn container(
    body: &[u8],
    session: &SessionId,
    user: &User,
    runtime: &str,
) -> Result<Order, Refusal> {
    let mut asked = object(body)?;
    let image = match asked.remove("Image") {
        Some(Value::String(name)) => image(&name)?,
        _ => return Err("a container needs an image".into()),
    };
    as_the_user(asked.remove("User"), user)?;
    let mut host = match asked.remove("HostConfig") {
        Some(Value::Object(host)) => host,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("the HostConfig is not understood".into()),
    };
    let mut ordered = passed(&mut asked, &PASSED)?;
    if let Some(directory) = working_directory(asked.remove("WorkingDir"))? {
        ordered.insert("WorkingDir".into(), directory.into());
    }
    let binds = binds(&mut host)?;
    ordered.insert(
        "Labels".into(),
        labels(asked.remove("Labels"), session, &binds)?,
    );
    // What is checked is checked by the engine, from outside of the session.
    asked.remove("Healthcheck");
    networking(asked.remove("NetworkingConfig"))?;
    let host = host_config(host, runtime)?;
    nothing_else(asked)?;
    let command = ["Entrypoint", "Cmd"]
        .into_iter()
        .filter_map(|field| ordered.get(field)?.as_array());
    let command = command
        .flatten()
        .filter_map(|word| Some(word.as_str()?.to_owned()))
        .collect();
    ordered.insert("Image".into(), image.clone().into());
    ordered.insert("User".into(), format!("{}:{}", user.uid, user.gid).into());
    ordered.insert("Healthcheck".into(), json!({ "Test": ["NONE"] }));
    ordered.insert("HostConfig".into(), host);
    Ok(Order {
        body: ordered.into(),
        image,
        command,
    })
}

/// Reads the body of `POST /containers/ID/exec`.
///
/// # Errors
/// When it is a command with other rights than the container's.
pub fn exec(body: &[u8], user: &User) -> Result<Value, Refusal> {
    let mut asked = object(body)?;
    as_the_user(asked.remove("User"), user)?;
    let mut ordered = passed(&mut asked, &PASSED_TO_EXEC)?;
    if let Some(directory) = working_directory(asked.remove("WorkingDir"))? {
        ordered.insert("WorkingDir".into(), directory.into());
    }
    // The container is named by the path, and how the client is attached is said again when it starts.
    asked.remove("Container");
    asked.remove("Detach");
    nothing_else(asked)?;
    ordered.insert("User".into(), format!("{}:{}", user.uid, user.gid).into());
    Ok(ordered.into())
}

/// Reads the body of `POST /exec/ID/start`.
///
/// # Errors
/// When it says more than how its client is attached.
pub fn exec_start(body: &[u8]) -> Result<Value, Refusal> {
    let mut asked = object(body)?;
    let ordered = passed(&mut asked, &[("Detach", Kind::Flag), ("Tty", Kind::Flag)])?;
    nothing_else(asked)?;
    Ok(ordered.into())
}

/// What was written into [`BINDS_LABEL`].
///
/// # Errors
/// When it is not that.
pub fn read_binds(label: &str) -> Result<Vec<Bind>, Refusal> {
    let read: Result<Vec<Bind>, _> = serde_json::from_str(label);
    read.map_err(|_| "what the container is to show of its session is not understood".into())
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_slice(body).map_err(|error| format!("the request is no JSON object: {error}"))
}

fn passed(
    asked: &mut Map<String, Value>,
    fields: &[(&str, Kind)],
) -> Result<Map<String, Value>, Refusal> {
    let mut passed = Map::new();
    for (field, kind) in fields {
        let Some(value) = asked.remove(*field).filter(|value| !value.is_null()) else {
            continue;
        };
        let texts = || {
            value
                .as_array()
                .is_some_and(|it| it.iter().all(Value::is_string))
        };
        let fits = match kind {
            Kind::Flag => value.is_boolean(),
            Kind::Text => value.is_string(),
            Kind::Texts => value.is_string() || texts(),
            Kind::Number => value.is_u64(),
        };
        if !fits {
            return Err(format!("{field} is of another kind than it has to be"));
        }
        passed.insert((*field).into(), value);
    }
    Ok(passed)
}

/// Without a user, the image would say. Here it is the session's, always.
fn as_the_user(asked: Option<Value>, user: &User) -> Result<(), Refusal> {
    let own = [
        String::new(),
        user.uid.to_string(),
        format!("{}:{}", user.uid, user.gid),
        user.name.clone(),
    ];
    match asked {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(name)) if own.contains(&name) => Ok(()),
        Some(_) => Err(format!(
            "containers of a session run as the session's user ({}:{}), and as nobody else: leave --user out",
            user.uid, user.gid
        )),
    }
}

fn working_directory(asked: Option<Value>) -> Result<Option<String>, Refusal> {
    match asked {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(path)) if path.is_empty() => Ok(None),
        Some(Value::String(path)) if is_directory(&path) => Ok(Some(path)),
        Some(_) => Err("the working directory has to be an absolute path without .., outside of /proc, /sys and /dev".into()),
    }
}

/// Whether a container may start in it: a path below /proc may lead out of it (CVE-2024-21626).
pub fn is_directory(path: &str) -> bool {
    let up = path.split('/').any(|part| part == "..");
    let kernels = ["proc", "sys", "dev"].contains(
        &path
            .split('/')
            .find(|part| !["", "."].contains(part))
            .unwrap_or_default(),
    );
    path.starts_with('/') && !up && !kernels && !path.contains('\0')
}

fn labels(asked: Option<Value>, session: &SessionId, binds: &[Bind]) -> Result<Value, Refusal> {
    let mut labels = match asked {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(labels)) if labels.values().all(Value::is_string) => labels,
        Some(_) => return Err("labels are names with text".into()),
    };
    if labels.keys().any(|name| name.starts_with(OWN_LABELS)) {
        return Err(format!(
            "labels that begin with {OWN_LABELS} are Holdpoint's"
        ));
    }
    labels.insert(SESSION_LABEL.into(), session.as_str().into());
    labels.insert(BINDS_LABEL.into(), json!(binds).to_string().into());
    Ok(labels.into())
}

/// The engine is told of none: it would look them up on the host, and make what is not there.
fn binds(host: &mut Map<String, Value>) -> Result<Vec<Bind>, Refusal> {
    let mut found = Vec::new();
    for bind in list(host.remove("Binds"))? {
        let text = bind.as_str().ok_or("a mount is text")?;
        found.push(Bind::parse(text)?);
    }
    for mount in list(host.remove("Mounts"))? {
        let Value::Object(mut mount) = mount else {
            return Err("a mount is not understood".into());
        };
        if mount.remove("Type") != Some("bind".into()) {
            return Err("only directories and files of the session are mounted (type=bind): no volumes, no tmpfs".into());
        }
        let (source, target) = (mount.remove("Source"), mount.remove("Target"));
        let read_only = mount.remove("ReadOnly").is_some_and(|it| it == true);
        let (Some(Value::String(source)), Some(Value::String(target))) = (source, target) else {
            return Err("a mount needs a source and a target".into());
        };
        nothing_else(mount)?;
        found.push(Bind::new(&source, &target, read_only)?);
    }
    bind::checked(found)
}

fn list(asked: Option<Value>) -> Result<Vec<Value>, Refusal> {
    match asked {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err("mounts are a list".into()),
    }
}

/// One network, described by nothing: as clients do who are told of none.
fn networking(asked: Option<Value>) -> Result<(), Refusal> {
    let refused = || {
        Err("containers of a session are in the session's own network, and there is no other: leave networks out".into())
    };
    match asked {
        Some(Value::Object(mut config)) => {
            let endpoints = config.remove("EndpointsConfig");
            let plain = |(name, endpoint): (&String, &Value)| {
                ["default", "bridge"].contains(&name.as_str()) && is_blank(endpoint)
            };
            let fits = match endpoints {
                None | Some(Value::Null) => true,
                Some(Value::Object(endpoints)) => endpoints.iter().all(plain),
                Some(_) => false,
            };
            match fits && config.values().all(is_nothing) {
                true => Ok(()),
                false => refused(),
            }
        }
        None | Some(Value::Null) => Ok(()),
        Some(_) => refused(),
    }
}

fn host_config(mut asked: Map<String, Value>, runtime: &str) -> Result<Value, Refusal> {
    let flags = passed(
        &mut asked,
        &[("AutoRemove", Kind::Flag), ("ReadonlyRootfs", Kind::Flag)],
    )?;
    // Each with what says the same as nothing.
    for (field, same) in [
        ("NetworkMode", &["default", "bridge"][..]),
        ("IpcMode", &["private", "shareable"]),
        ("CgroupnsMode", &["private"]),
        ("Isolation", &["default"]),
    ] {
        if asked
            .get(field)
            .and_then(Value::as_str)
            .is_some_and(|mode| same.contains(&mode))
        {
            asked.remove(field);
        }
    }
    if asked.get("MemorySwappiness").and_then(Value::as_i64) == Some(-1) {
        asked.remove("MemorySwappiness");
    }
    if asked
        .get("ShmSize")
        .and_then(Value::as_u64)
        .is_some_and(|size| size <= MOST_SHARED_MEMORY)
    {
        asked.remove("ShmSize");
    }
    if let Some(Value::Object(policy)) = asked.get_mut("RestartPolicy")
        && policy.get("Name").and_then(Value::as_str) == Some("no")
    {
        policy.remove("Name");
    }
    for structure in ["RestartPolicy", "LogConfig"] {
        if asked.get(structure).is_some_and(is_blank) {
            asked.remove(structure);
        }
    }
    if let Some(Value::Array(options)) = asked.get_mut("SecurityOpt") {
        // So it is.
        options.retain(|option| {
            !option
                .as_str()
                .is_some_and(|it| it.starts_with("no-new-privileges") && !it.ends_with("false"))
        });
    }
    nothing_else(asked)?;
    let mut host = flags;
    host.insert("Runtime".into(), runtime.into());
    host.insert("NetworkMode".into(), "none".into());
    Ok(host.into())
}

fn nothing_else(asked: Map<String, Value>) -> Result<(), Refusal> {
    let meant = |(field, value): &(String, Value)| {
        !WITHOUT_MEANING.contains(&field.as_str()) && !is_nothing(value)
    };
    match asked.into_iter().find(meant) {
        None => Ok(()),
        Some((field, _)) => Err(why_not(&field)),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Nothing, or a structure with nothing in it. (Of a map, its names mean something.)
fn is_blank(value: &Value) -> bool {
    let inside = |fields: &Map<String, Value>| fields.values().all(is_nothing);
    is_nothing(value) || value.as_object().is_some_and(inside)
}

#[cfg(test)]
mod tests;
