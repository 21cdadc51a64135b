//! A container's configuration (<https://github.com/opencontainers/runtime-spec/blob/main/config.md>): what the engine wants to run,
//! and on which root file system, is taken over; all else is said here, whatever the engine says.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{bind::OWN_PLACE, birth::Birth, order},
    inside::Inside,
    seccomp,
    stage::{OWN_HOSTS, OWN_RESOLV_CONF, Staged},
};
use crate::launch::{
    environment,
    message::Octets,
    trust::{BUNDLE_NAME, SYSTEM_BUNDLES, SYSTEM_TRUSTSTORES, TRUSTSTORE_NAME},
};

/// Bytes of a configuration. Docker's have 10 KB, and what the environment takes.
const MOST: u64 = 4 << 20;
const CONFIG: &str = "config.json";

/// What shows or changes the kernel's view of the host.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/fs/bpf",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What is taken over of an engine's configuration.
#[derive(Debug, Deserialize)]
pub struct Asked {
    process: Process,
    root: Root,
    #[serde(default)]
    hostname: String,
}

#[derive(Debug, Deserialize)]
struct Root {
    path: PathBuf,
    #[serde(default)]
    readonly: bool,
}

/// What is taken over of a process.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    cwd: String,
    #[serde(default)]
    terminal: bool,
    console_size: Option<ConsoleSize>,
    /// The host's further rules for containers, where it has any.
    apparmor_profile: Option<String>,
    selinux_label: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ConsoleSize {
    height: u16,
    width: u16,
}

/// Reads a bundle's.
///
/// # Errors
/// When it cannot be read or is not understood.
pub fn read(bundle: &Path) -> anyhow::Result<Asked> {
    let text = read_file(&bundle.join(CONFIG))?;
    serde_json::from_slice(&text)
        .context("the engine's configuration of the container is not understood")
}

/// Writes it anew.
///
/// # Errors
/// When what the engine wants cannot be, or it cannot be written.
pub fn rewrite(
    bundle: &Path,
    asked: Asked,
    birth: &Birth,
    inside: &Inside,
    staged: &Staged,
    id: &str,
) -> anyhow::Result<()> {
    let root = bundle.join(&asked.root.path);
    let mut mounts = standard_mounts();
    for (bind, place) in birth.binds.iter().zip(&staged.binds) {
        mounts.push(shown(place, &bind.destination, bind.read_only));
    }
    mounts.extend(own_mounts(&root, staged)?);
    let hostname: String = asked
        .hostname
        .chars()
        .filter(|it| it.is_ascii_alphanumeric() || "-.".contains(*it))
        .take(63)
        .collect();
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let namespaces = [
        namespaces.as_slice(),
        &[json!({ "type": "network", "path": inside.network_path() })],
    ]
    .concat();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process(asked.process, birth)?,
        "root": { "path": root, "readonly": asked.root.readonly },
        "hostname": hostname,
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": inside.cgroups_path(id),
            "seccomp": seccomp::profile()?,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "rootfsPropagation": "private",
            // The runtime allows the usual ones by itself: null, zero, random, tty ...
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    });
    replace(&bundle.join(CONFIG), &config)
}

/// The same for a command in a container that runs.
///
/// # Errors
/// As [`read`] and [`rewrite`].
pub fn rewrite_process(path: &Path, birth: &Birth) -> anyhow::Result<()> {
    let text = read_file(path)?;
    let asked = serde_json::from_slice(&text)
        .context("the engine's description of the command is not understood")?;
    replace(path, &process(asked, birth)?)
}

fn process(asked: Process, birth: &Birth) -> anyhow::Result<Value> {
    anyhow::ensure!(!asked.args.is_empty(), "there is no command to run");
    anyhow::ensure!(
        order::is_directory(&asked.cwd),
        "the working directory {} is not to be started in",
        asked.cwd
    );
    let caller = asked
        .env
        .into_iter()
        .map(|entry| Octets(entry.into_bytes()))
        .collect();
    let bundle = Path::new(OWN_PLACE).join(BUNDLE_NAME);
    let environment: Vec<_> = environment::for_session(
        caller,
        birth.uid,
        &birth.session,
        &bundle,
        birth.project.as_deref(),
    )
    .into_iter()
    .map(|entry| String::from_utf8_lossy(&entry.0).into_owned())
    // That directory is the session's.
    .filter(|entry| !entry.starts_with("XDG_RUNTIME_DIR="))
    .collect();
    let none: [&str; 0] = [];
    let mut process = Map::from_iter(
        [
            ("terminal", json!(asked.terminal)),
            ("user", json!({ "uid": birth.uid, "gid": birth.gid, "umask": 0o022 })),
            ("args", json!(asked.args)),
            ("env", json!(environment)),
            ("cwd", json!(asked.cwd)),
            (
                "capabilities",
                json!({ "bounding": none, "effective": none, "permitted": none, "inheritable": none, "ambient": none }),
            ),
            ("noNewPrivileges", json!(true)),
            // Nothing writes cores (see `launch::credentials`).
            ("rlimits", json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }])),
        ]
        .map(|(field, value)| (field.to_owned(), value)),
    );
    if let Some(size) = asked.console_size {
        process.insert(
            "consoleSize".into(),
            json!({ "height": size.height, "width": size.width }),
        );
    }
    for (field, value) in [
        ("apparmorProfile", asked.apparmor_profile),
        ("selinuxLabel", asked.selinux_label),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            process.insert(field.into(), value.into());
        }
    }
    Ok(process.into())
}

fn standard_mounts() -> Vec<Value> {
    let mount = |place: &str, kind: &str, options: &[&str]| json!({ "destination": place, "type": kind, "source": kind, "options": options });
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=1g"],
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ]
}

/// The resolver's address and the certificates to trust, over the image's.
fn own_mounts(root: &Path, staged: &Staged) -> anyhow::Result<Vec<Value>> {
    let own = |name: &str, place: &str| shown(&staged.own(name), place, true);
    let mut mounts = vec![
        own(OWN_RESOLV_CONF, "/etc/resolv.conf"),
        own(OWN_HOSTS, "/etc/hosts"),
        own(BUNDLE_NAME, &format!("{OWN_PLACE}/{BUNDLE_NAME}")),
    ];
    mounts.extend(existing(root, &SYSTEM_BUNDLES)?.map(|place| own(BUNDLE_NAME, place)));
    if staged.has_truststore {
        mounts.push(own(
            TRUSTSTORE_NAME,
            &format!("{OWN_PLACE}/{TRUSTSTORE_NAME}"),
        ));
        mounts
            .extend(existing(root, &SYSTEM_TRUSTSTORES)?.map(|place| own(TRUSTSTORE_NAME, place)));
    }
    Ok(mounts)
}

fn shown(source: &Path, destination: &str, read_only: bool) -> Value {
    let access = if read_only { "ro" } else { "rw" };
    json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", "nosuid", "nodev", access] })
}

/// Those places that the image has a file at. Its links lead to what is in it.
fn existing<'a>(
    root: &Path,
    places: &'a [&'static str],
) -> anyhow::Result<impl Iterator<Item = &'static str> + use<'a>> {
    let root = open(
        root,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .with_context(|| format!("cannot open the root file system {}", root.display()))?;
    Ok(places.iter().copied().filter(move |place| {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&root, *place, how).is_ok()
    }))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        text.len() as u64 <= MOST,
        "{} has more than {MOST} bytes",
        path.display()
    );
    Ok(text)
}

/// At once, so that no runtime ever reads half of it, or the engine's.
fn replace(path: &Path, value: &Value) -> anyhow::Result<()> {
    let draft = path.with_extension("holdpoint");
    fs::File::create(&draft)
        .and_then(|mut file| file.write_all(value.to_string().as_bytes()))
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn birth() -> Birth {
        Birth {
            session: "s-1".into(),
            cgroup: "/c/s-1".into(),
            init: 7,
            uid: 1000,
            gid: 1000,
            binds: Vec::new(),
            ca_bundle: "/b".into(),
            truststore: None,
            project: None,
        }
    }

    fn read_process(value: Value) -> anyhow::Result<Value> {
        process(serde_json::from_value(value)?, &birth())
    }

    #[test]
    fn whatever_the_engine_says_a_process_has_no_rights() {
        let made = read_process(json!({
            "args": ["sh"], "cwd": "/", "env": ["A=b", "SSL_CERT_FILE=/evil", "HTTPS_PROXY=http://x"],
            "user": { "uid": 0, "gid": 0, "additionalGids": [0] },
            "capabilities": { "bounding": ["CAP_SYS_ADMIN"], "ambient": ["CAP_SYS_ADMIN"] },
            "noNewPrivileges": false, "oomScoreAdj": -1000, "ioPriority": {}, "scheduler": {},
        }))
        .expect("a process");
        assert_eq!(
            made["user"],
            json!({ "uid": 1000, "gid": 1000, "umask": 18 })
        );
        assert_eq!(made["noNewPrivileges"], true);
        assert_eq!(made["capabilities"].as_object().map(Map::len), Some(5));
        assert!(
            !made.to_string().contains("SYS_ADMIN")
                && !made.to_string().contains("evil")
                && !made.to_string().contains("PROXY")
        );
        assert!(made.get("oomScoreAdj").is_none() && made.get("scheduler").is_none());
        let environment = made["env"].as_array().expect("a list");
        assert!(environment.contains(&json!("A=b")));
        assert!(environment.contains(&json!("SSL_CERT_FILE=/run/holdpoint/ca-bundle.pem")));
    }

    #[test]
    fn a_process_starts_in_a_directory_of_the_containers() {
        for cwd in [
            "/proc/self/fd/7",
            "//proc/1/root",
            "/./proc",
            "/a/../proc",
            "relative",
            "",
        ] {
            assert!(
                read_process(json!({ "args": ["sh"], "cwd": cwd })).is_err(),
                "{cwd}"
            );
        }
        assert!(read_process(json!({ "args": [], "cwd": "/" })).is_err());
        assert!(read_process(json!({ "args": ["sh"], "cwd": "/process" })).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            let _ = serde_json::from_slice::<Asked>(&text);
        }
    }
}
