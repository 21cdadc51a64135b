//! `holdpoint mask`: masks standard input as the daemon would, offline.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use holdpoint_core::mask::{Form, Found, Masker, Masks, SetSource};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A set: `secrets`, `pii`, `minted`, or one of the configuration's. May be given more than once.
    #[arg(long = "set", value_name = "NAME", required = true)]
    sets: Vec<String>,
    /// What standard input is.
    #[arg(long, value_name = "TYPE", default_value = "text/plain")]
    content_type: String,
    /// The configuration file, for its `[[mask]]` sets and the host's key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say on standard error what was found, and how often.
    #[arg(long)]
    count: bool,
}

/// What of a configuration is needed here. The rest is the daemon's to check.
#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default, rename = "mask")]
    masks: Vec<SetSource>,
    state_dir: Option<PathBuf>,
}

/// Masks standard input to standard output.
///
/// # Errors
/// When a set does not exist, or the input is not what it is said to be: what was read before that has been written, masked, and
/// nothing after it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = settings(args.config.as_deref())?;
    let masks = Masks::new(&settings.masks, *key(&settings)?)?;
    let set = masks.union(args.sets.iter().map(String::as_str))?;
    let masker = Masker::new(set, Form::of(Some(&args.content_type)));
    let found = copy(masker, io::stdin().lock(), io::stdout().lock())?;
    if args.count {
        for (detector, many) in &found.0 {
            eprintln!("{many}\t{detector}");
        }
    }
    Ok(())
}

fn settings(config: Option<&Path>) -> anyhow::Result<Settings> {
    let Some(file) = config else {
        return Ok(Settings::default());
    };
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the configuration {}", file.display()))?;
    toml::from_str(&text)
        .with_context(|| format!("the configuration {} is not valid", file.display()))
}

/// The host's, where the configuration leads to it. Else one for this run: equal values are masked alike within it.
fn key(settings: &Settings) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let file = settings.state_dir.as_ref().map(|dir| dir.join("mask.key"));
    if let Some(file) = file.filter(|file| file.exists()) {
        let bytes = Zeroizing::new(
            fs::read(&file)
                .with_context(|| format!("cannot read the host's key {}", file.display()))?,
        );
        anyhow::ensure!(
            bytes.len() == key.len(),
            "{} is no key: it has to have {} bytes",
            file.display(),
            key.len()
        );
        key.copy_from_slice(&bytes);
    } else {
        getrandom::fill(key.as_mut_slice()).context("the kernel gives no random bytes")?;
    }
    Ok(key)
}

fn copy(mut masker: Masker, mut input: impl Read, mut output: impl Write) -> anyhow::Result<Found> {
    const UNREADABLE: &str =
        "standard input cannot be read as its --content-type, and is not passed on";
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    let mut masked = Vec::new();
    loop {
        let length = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read standard input"),
        };
        masked.clear();
        masker
            .push(&piece[..length], &mut masked)
            .context(UNREADABLE)?;
        write(&mut output, &masked)?;
    }
    masked.clear();
    let found = masker.finish(&mut masked).context(UNREADABLE)?;
    write(&mut output, &masked)?;
    Ok(found)
}

fn write(output: &mut impl Write, masked: &[u8]) -> anyhow::Result<()> {
    output
        .write_all(masked)
        .and_then(|()| output.flush())
        .context("cannot write standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(form: &str, input: &[u8]) -> (anyhow::Result<Found>, String) {
        let masks = Masks::new(&[], [1; 32]).expect("built-in sets");
        let set = masks.union(["secrets"]).expect("a built-in set");
        let mut out = Vec::new();
        let found = copy(Masker::new(set, Form::of(Some(form))), input, &mut out);
        (found, String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn what_is_found_is_masked_and_counted() {
        let (found, out) = masked(
            "application/json",
            br#"{"password":"x","a":["AKIAIOSFODNN7EXAMPLE"]}"#,
        );
        let found = found.expect("JSON");
        assert_eq!(
            out,
            r#"{"password":"[masked:secret-field]","a":["[masked:aws-access-key-id]"]}"#
        );
        assert_eq!(found.0.values().sum::<u64>(), 2);
    }

    #[test]
    fn nothing_follows_what_cannot_be_read() {
        let (found, out) = masked("application/json", br#"{"password":"hunter22","a" "b"}"#);
        assert!(found.is_err());
        assert!(!out.contains("hunter22") && !out.contains('b'), "{out}");
        let (found, out) = masked("application/octet-stream", b"hunter22");
        assert!(found.is_err() && out.is_empty());
    }

    #[test]
    fn only_what_masks_need_is_read_of_a_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("holdpoint.toml");
        fs::write(dir.path().join("mask.key"), [3; 32]).expect("a key");
        let state = dir.path().display();
        let text = format!(
            "state_dir = \"{state}\"\nother = 1\n[[mask]]\nname = \"own\"\nfields = [\"a\"]\nmode = \"hash\"\n"
        );
        fs::write(&file, text).expect("a configuration");
        let settings = settings(Some(&file)).expect("it is read");
        assert_eq!(settings.masks[0].name, "own");
        assert_eq!(*key(&settings).expect("a key"), [3; 32]);
        fs::write(dir.path().join("mask.key"), [3; 31]).expect("no key");
        assert!(key(&settings).is_err());
    }
}
