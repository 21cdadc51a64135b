//! Service-account key files, as the console and `gcloud iam service-accounts keys create` make them.

use std::{fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const LONGEST: u64 = 64 * 1024;
/// The longest that Google allows.
const ASSERTION_LIFETIME: i64 = 3600;

/// A service account's key. The private part is wiped when it is dropped.
pub(super) struct ServiceAccountKey {
    pub account: String,
    pub project: Option<String>,
    pub token_uri: String,
    id: Option<String>,
    private: EncodingKey,
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    project_id: Option<String>,
    private_key_id: Option<String>,
    private_key: Zeroizing<String>,
    client_email: String,
    token_uri: String,
}

/// The claims of RFC 7523, section 3, and Google's `scope`.
#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl ServiceAccountKey {
    /// Reads a key file that nobody but its owner, root or this user, can read.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("the service-account key {}", path.display());
        let json = read_private(path).with_context(context)?;
        Self::parse(&json).with_context(context)
    }

    fn parse(json: &[u8]) -> anyhow::Result<Self> {
        // What serde says of a mismatch may quote a value.
        let file: KeyFile = serde_json::from_slice(json).map_err(|error| {
            anyhow::anyhow!("is not a key file (JSON, line {}): type, private_key, client_email and token_uri are needed", error.line())
        })?;
        anyhow::ensure!(
            file.kind == "service_account",
            "is of the type {:?}, a service_account's key is needed",
            file.kind
        );
        let private = EncodingKey::from_rsa_pem(file.private_key.as_bytes())
            .map_err(|_| anyhow::anyhow!("holds a private_key that is not RSA in PEM"))?;
        Ok(Self {
            account: file.client_email,
            project: file.project_id,
            token_uri: file.token_uri,
            id: file.private_key_id,
            private,
        })
    }

    /// A signed request for a token with `scope`, to be sent to `token_uri`.
    pub(super) fn assertion(&self, scope: &str, now: Timestamp) -> Result<String, String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid.clone_from(&self.id);
        let claims = Assertion {
            iss: &self.account,
            scope,
            aud: &self.token_uri,
            iat: now.as_second(),
            exp: now.as_second() + ASSERTION_LIFETIME,
        };
        jsonwebtoken::encode(&header, &claims, &self.private)
            .map_err(|_| "the private key cannot sign: is the key file whole?".to_owned())
    }
}

/// A file with a secret in it.
///
/// # Errors
/// When it cannot be read, is longer than 64 KiB, or others could read or change it.
pub(crate) fn read_private(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path).context("cannot be opened")?;
    let metadata = file.metadata().context("cannot be examined")?;
    anyhow::ensure!(metadata.is_file(), "is not a regular file");
    check_private(metadata.mode(), metadata.uid(), metadata.gid())?;
    // Allocated at once: a buffer that grows leaves copies behind.
    let mut json = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1)
        .read_to_end(&mut json)
        .context("cannot be read")?;
    anyhow::ensure!(json.len() as u64 <= LONGEST, "is longer than 64 KiB");
    Ok(json)
}

/// Others must not read it, nor a group other than root's; only root or this user can have written it.
fn check_private(mode: u32, owner: u32, group: u32) -> anyhow::Result<()> {
    let this_user = nix::unistd::geteuid().as_raw();
    anyhow::ensure!(
        owner == 0 || owner == this_user,
        "belongs to user {owner}, who could change it: chown it to root"
    );
    let open_to_group = mode & 0o070 != 0 && group != 0;
    anyhow::ensure!(
        mode & 0o007 == 0 && !open_to_group,
        "is open to others (mode {:04o}): chmod it to 0400",
        mode & 0o7777
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_files_must_be_private() {
        let me = nix::unistd::geteuid().as_raw();
        for (mode, owner, group) in [
            (0o400, 0, 0),
            (0o600, me, 1000),
            (0o440, 0, 0),
            (0o640, me, 0),
        ] {
            assert!(
                check_private(mode, owner, group).is_ok(),
                "{mode:o} {owner} {group}"
            );
        }
        for (mode, owner, group) in [
            (0o604, 0, 0),
            (0o644, 0, 0),
            (0o440, 0, 1000),
            (0o620, 0, 1000),
            (0o400, me + 1, 0),
        ] {
            assert!(
                check_private(mode, owner, group).is_err(),
                "{mode:o} {owner} {group}"
            );
        }
    }

    #[test]
    fn a_readable_key_file_is_refused_before_it_is_read() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), open).expect("changed");
        let error = ServiceAccountKey::read(file.path()).err().expect("refused");
        let text = format!("{error:#}");
        assert!(
            text.contains("mode 0644") && text.contains("chmod"),
            "{text}"
        );
    }

    #[test]
    fn errors_do_not_quote_the_file() {
        for json in [
            r#"{"type": "service_account", "private_key": "SECRET", "client_email": "a", "token_uri": "b"}"#,
            r#"{"type": ["SECRET"], "private_key": 1}"#,
            r#""SECRET""#,
            "SECRET",
        ] {
            let error = ServiceAccountKey::parse(json.as_bytes())
                .err()
                .expect("refused");
            let text = format!("{error:#} {error:?}");
            assert!(!text.contains("SECRET"), "{text}");
        }
        let user = r#"{"type": "authorized_user", "private_key": "", "client_email": "a", "token_uri": "b"}"#;
        let error = ServiceAccountKey::parse(user.as_bytes())
            .err()
            .expect("refused");
        assert!(error.to_string().contains("authorized_user"), "{error}");
    }
}
