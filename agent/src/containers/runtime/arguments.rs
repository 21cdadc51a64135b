//! The command line of OCI runtimes, as containerd, conmon and people use it: what is not known is refused.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use anyhow::Context as _;

/// What an engine wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A container is to be made.
    Create {
        /// Where its configuration is.
        bundle: PathBuf,
        /// Where its first process is told.
        pid_file: PathBuf,
        /// Its name.
        id: String,
    },
    /// A command is to run in it.
    Exec {
        /// Where it is described.
        process: PathBuf,
        /// The container's name.
        id: String,
    },
    /// Anything that starts nothing new.
    Other,
}

/// A command line that was understood.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// What is wanted.
    pub call: Call,
    /// Where errors go.
    pub log: Option<PathBuf>,
    globals: Vec<OsString>,
    rest: Vec<OsString>,
}

/// Options before the command, with a value and without.
const GLOBAL_VALUES: [&str; 3] = ["--root", "--log", "--log-format"];
const GLOBAL_FLAGS: [&str; 4] = ["--debug", "--version", "-v", "--help"];
/// Who makes cgroups is decided here: they are below a session's, where systemd has no say.
const DROPPED_FLAGS: [&str; 1] = ["--systemd-cgroup"];
const DROPPED_VALUES: [&str; 1] = ["--cgroup-manager"];

/// Commands that start nothing.
const OTHERS: [&str; 11] = [
    "start", "state", "kill", "delete", "ps", "list", "pause", "resume", "events", "features",
    "version",
];

const CREATE_VALUES: [&str; 4] = ["--bundle", "-b", "--pid-file", "--console-socket"];
const EXEC_VALUES: [&str; 4] = ["--process", "-p", "--pid-file", "--console-socket"];

impl Invocation {
    /// Reads it, without the program's own name.
    ///
    /// # Errors
    /// When it is not known.
    pub fn parse(arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let mut arguments = arguments.into_iter();
        let mut globals = Vec::new();
        let mut log = None;
        let mut command = None;
        while let Some(argument) = arguments.next() {
            let text = argument.to_str().context("an option is not UTF-8")?;
            if !text.starts_with('-') {
                command = Some(argument);
                break;
            }
            let (name, value) = split(text);
            if GLOBAL_FLAGS.contains(&text) {
                globals.push(argument);
            } else if DROPPED_FLAGS.contains(&name) {
            } else if GLOBAL_VALUES.contains(&name) || DROPPED_VALUES.contains(&name) {
                let given = value.map(OsString::from).or_else(|| arguments.next());
                let given = given.with_context(|| format!("{name} lacks its value"))?;
                if name == "--log" {
                    log = Some(PathBuf::from(&given));
                }
                if !DROPPED_VALUES.contains(&name) {
                    globals.extend([name.into(), given]);
                }
            } else {
                anyhow::bail!("the runtime's option {name} is not known");
            }
        }
        let rest: Vec<_> = arguments.collect();
        let (call, rest) = match command.as_deref().map(OsStr::to_string_lossy).as_deref() {
            Some("create") => create(rest)?,
            Some("exec") => exec(rest)?,
            Some(other) if OTHERS.contains(&other) => {
                (Call::Other, [vec![OsString::from(other)], rest].concat())
            }
            None if !globals.is_empty() => (Call::Other, Vec::new()),
            other => anyhow::bail!(
                "containers of sessions are created and started, and {} is something else",
                other.unwrap_or("nothing")
            ),
        };
        Ok(Self {
            call,
            log,
            globals,
            rest,
        })
    }

    /// For the real runtime.
    pub fn arguments(&self) -> impl Iterator<Item = &OsString> {
        self.globals.iter().chain(&self.rest)
    }

    /// The same for removing the container.
    pub fn deletion(&self, id: &str) -> Vec<OsString> {
        let mut arguments = self.globals.clone();
        arguments.extend(["delete", "--force", id].map(OsString::from));
        arguments
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('=')
        .map_or((text, None), |(name, value)| (name, Some(value)))
}

/// The options of a command, and its one operand.
struct Options {
    values: Vec<(&'static str, OsString)>,
    flags: Vec<OsString>,
    id: String,
}

impl Options {
    fn parse(
        arguments: Vec<OsString>,
        values: &[&'static str],
        flags: &[&str],
        dropped: &[&str],
    ) -> anyhow::Result<Self> {
        let mut arguments = arguments.into_iter();
        let mut options = Self {
            values: Vec::new(),
            flags: Vec::new(),
            id: String::new(),
        };
        while let Some(argument) = arguments.next() {
            let text = argument.to_str().context("an option is not UTF-8")?;
            let (name, value) = split(text);
            if !text.starts_with('-') {
                anyhow::ensure!(options.id.is_empty(), "more than one container is named");
                text.clone_into(&mut options.id);
            } else if let Some(known) = values.iter().find(|known| **known == name) {
                let given = value.map(OsString::from).or_else(|| arguments.next());
                options.values.push((
                    known,
                    given.with_context(|| format!("{name} lacks its value"))?,
                ));
            } else if flags.contains(&text) {
                options.flags.push(argument);
            } else if !dropped.contains(&text) {
                anyhow::bail!("the runtime's option {name} is not known");
            }
        }
        let id = &options.id;
        let fits = |it: u8| it.is_ascii_alphanumeric() || b"_.-+".contains(&it);
        anyhow::ensure!(
            !id.is_empty()
                && id.len() <= 256
                && id.bytes().all(fits)
                && !id.starts_with(['.', '-']),
            "{id:?} is no name of a container"
        );
        Ok(options)
    }

    fn path(&self, names: [&str; 2]) -> anyhow::Result<PathBuf> {
        let mut found = self.values.iter().filter(|(name, _)| names.contains(name));
        match (found.next(), found.next()) {
            (Some((_, path)), None) => Ok(PathBuf::from(path)),
            _ => anyhow::bail!("{} is needed, once", names[0]),
        }
    }

    fn arguments(self, command: &str) -> Vec<OsString> {
        let mut arguments = vec![command.into()];
        arguments.extend(
            self.values
                .into_iter()
                .flat_map(|(name, value)| [name.into(), value]),
        );
        arguments.extend(self.flags);
        arguments.push(self.id.into());
        arguments
    }
}

fn create(arguments: Vec<OsString>) -> anyhow::Result<(Call, Vec<OsString>)> {
    // A container has a keyring of its own, not the engine's.
    let options = Options::parse(arguments, &CREATE_VALUES, &[], &["--no-new-keyring"])?;
    let call = Call::Create {
        bundle: options.path(["--bundle", "-b"])?,
        pid_file: options.path(["--pid-file", "--pid-file"])?,
        id: options.id.clone(),
    };
    Ok((call, options.arguments("create")))
}

fn exec(arguments: Vec<OsString>) -> anyhow::Result<(Call, Vec<OsString>)> {
    let options = Options::parse(
        arguments,
        &EXEC_VALUES,
        &["--detach", "-d"],
        &["--tty", "-t"],
    )?;
    let call = Call::Exec {
        process: options.path(["--process", "-p"])?,
        id: options.id.clone(),
    };
    Ok((call, options.arguments("exec")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> anyhow::Result<Invocation> {
        Invocation::parse(line.split_whitespace().map(OsString::from).collect())
    }

    fn handed_on(line: &str) -> String {
        let invocation = parse(line).expect("is understood");
        let words: Vec<_> = invocation
            .arguments()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn containerds_and_conmons_calls_are_understood() {
        let create = "--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /b/pid 05c346";
        assert_eq!(
            handed_on(create),
            "--root /r --log /l --log-format json create --bundle /b --pid-file /b/pid 05c346"
        );
        let invocation = parse(create).expect("is understood");
        assert_eq!(invocation.log, Some("/l".into()));
        assert_eq!(
            invocation.call,
            Call::Create {
                bundle: "/b".into(),
                pid_file: "/b/pid".into(),
                id: "05c346".into()
            }
        );
        assert_eq!(
            handed_on("--root=/r exec --process /p --console-socket /c --detach --pid-file /f abc"),
            "--root /r exec --process /p --console-socket /c --pid-file /f --detach abc"
        );
        assert_eq!(
            handed_on("--root /r delete --force abc"),
            "--root /r delete --force abc"
        );
        assert_eq!(handed_on("--version"), "--version");
    }

    #[test]
    fn what_starts_something_else_is_refused() {
        for line in [
            "",
            "run --bundle /b abc",
            "restore --bundle /b abc",
            "update --pids-limit 7 abc",
            "checkpoint abc",
            "spec",
            "create --bundle /b abc",
            "create --bundle /b --bundle /c --pid-file /p abc",
            "create --bundle /b --pid-file /p abc def",
            "create --bundle /b --pid-file /p",
            "create --bundle /b --pid-file /p ../x",
            "create --no-pivot --bundle /b --pid-file /p abc",
            "create --preserve-fds 3 --bundle /b --pid-file /p abc",
            "exec abc sh",
            "exec --cap CAP_SYS_ADMIN --process /p abc",
            "exec --user 0 --process /p abc",
            "--criu /x start abc",
            "--rootless=true create --bundle /b --pid-file /p abc",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_survived(words: Vec<String>) {
            let _ = Invocation::parse(words.into_iter().map(OsString::from).collect());
        }
    }
}
