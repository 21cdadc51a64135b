use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::upstream::Upstream;

/// Credentials that nothing is fetched for.
pub(crate) fn credentials() -> Arc<Credentials> {
    credentials_from("127.0.0.1:9")
}

/// Those that the metadata server at this address gives.
pub(crate) fn credentials_from(metadata: &str) -> Arc<Credentials> {
    let google = toml::from_str(&format!(
        "account = 'agent@p.iam.gserviceaccount.com'\nproject = 'p'\ncredential = {{ from = 'metadata', address = '{metadata}' }}"
    ))
    .expect("a table");
    let upstream = Upstream::new(&crate::config::Upstream::default()).expect("roots");
    Arc::new(Credentials::new(&google, upstream).expect("credentials"))
}

pub(crate) fn entry(toml: &str, credentials: &Arc<Credentials>) -> Entry {
    try_entry(toml, credentials).expect("an entry")
}

pub(crate) fn try_entry(toml: &str, credentials: &Arc<Credentials>) -> anyhow::Result<Entry> {
    let connection: Connection = toml::from_str(toml)?;
    let upstream = Upstream::new(&crate::config::Upstream::default())?;
    Entry::new(&connection, credentials.clone(), &upstream)
}

fn databases() -> Databases {
    let entries = [
        "name = 'named'\naddresses = ['db.internal:5432', '10.9.9.9:5432']\nuser = 'u'",
        "name = 'ranged'\naddresses = ['10.2.0.0/24:5432']\ndial = 'x:1'\niam = true",
    ];
    Databases {
        entries: entries
            .map(|toml| Arc::new(entry(toml, &credentials())))
            .to_vec(),
        ..Databases::default()
    }
}

#[test]
fn an_address_means_the_entry_that_has_it() {
    let databases = databases();
    let at = |name: Option<&str>, to: &str| {
        let found = databases.at(name, to.parse().expect("an address"));
        found.map(|entry| entry.name.to_string())
    };
    assert_eq!(
        at(Some("db.internal"), "198.18.0.1:5432").as_deref(),
        Some("named")
    );
    assert_eq!(at(None, "10.9.9.9:5432").as_deref(), Some("named"));
    assert_eq!(at(None, "10.2.0.77:5432").as_deref(), Some("ranged"));
    assert_eq!(
        at(None, "[::ffff:10.2.0.77]:5432").as_deref(),
        Some("ranged")
    );
    for (name, to) in [
        (Some("db.internal"), "198.18.0.1:5433"),
        (Some("other.internal"), "198.18.0.1:5432"),
        (Some("other.internal"), "10.9.9.9:5432"),
        (None, "198.18.0.1:5432"),
        (None, "10.2.1.0:5432"),
        (None, "10.2.0.77:80"),
    ] {
        assert_eq!(at(name, to), None, "{name:?} {to}");
    }
    assert!(databases.know("db.internal"));
    assert!(!databases.know("internal") && !databases.know("x.db.internal"));
}

#[test]
fn a_password_is_a_private_file_without_its_last_line_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    let read = |content: &str, mode: u32| {
        std::fs::write(&file, content).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("changed");
        read_password(&file)
    };
    assert_eq!(*read("secret\n", 0o600).expect("private"), b"secret");
    assert_eq!(*read("sec ret \r\n", 0o400).expect("private"), b"sec ret ");
    assert_eq!(*read("secret\n\n", 0o600).expect("private"), b"secret\n");
    for (content, mode) in [
        ("secret", 0o644),
        ("", 0o600),
        ("\n", 0o600),
        ("a\0b", 0o600),
    ] {
        let error = format!("{:#}", read(content, mode).expect_err(content));
        assert!(
            !error.contains("secret") && error.contains("password_file"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn with_iam_the_user_is_the_service_account() {
    let iam = entry(
        "name = 'a'\naddresses = ['d:1']\niam = true",
        &credentials(),
    );
    assert_eq!(&*iam.user().await.expect("known"), "agent@p.iam");
    let named = entry(
        "name = 'a'\naddresses = ['d:1']\niam = true\nuser = 'other@p.iam'",
        &credentials(),
    );
    assert_eq!(&*named.user().await.expect("known"), "other@p.iam");
}
