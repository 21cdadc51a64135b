use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::postgres::testing::{Ca, ca, leaf};

struct Files {
    dir: tempfile::TempDir,
    ca: Ca,
}

impl Files {
    fn new() -> Self {
        let (dir, ca) = (tempfile::tempdir().expect("a directory"), ca("a CA"));
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).expect("written");
        Self { dir, ca }
    }

    fn signed(&self, params: &CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        params
            .signed_by(&key, &self.ca)
            .expect("signed")
            .der()
            .clone()
    }

    fn verifier(&self, more: &str) -> Verifier {
        let toml = format!(
            "name = 'a'\naddresses = ['db.internal:5432']\nuser = 'u'\nca_file = '{}/ca.pem'\n{more}",
            self.dir.path().display()
        );
        let connection = toml::from_str(&toml).expect("a table");
        Verifier::new(&connection, &aws_lc_rs::default_provider()).expect("a verifier")
    }
}

fn verdict(
    verifier: &Verifier,
    certificate: &CertificateDer<'_>,
    at: UnixTime,
) -> Result<(), Error> {
    let name = ServerName::try_from("db.internal").expect("a name");
    verifier
        .verify_server_cert(certificate, &[], &name, &[], at)
        .map(drop)
}

const INSTANCE: &str = "instance = 'p:europe-west1:db'\n";

#[test]
fn each_mode_asks_what_it_says() {
    let files = Files::new();
    let named = files.signed(&leaf("x", &["db.internal"]));
    let other_name = files.signed(&leaf("x", &["other.internal"]));
    let cloud_sql = files.signed(&leaf("p:db", &[]));
    let others = Files::new().signed(&leaf("p:db", &["db.internal"]));
    let mut old = leaf("x", &["db.internal"]);
    old.not_before = rcgen::date_time_ymd(2020, 1, 1);
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let old = files.signed(&old);
    //                 named, other_name, cloud_sql, others, old
    for (more, good) in [
        ("", [true, false, false, false, false]),
        ("tls = 'verify-ca'", [true, true, true, false, false]),
        ("tls = 'unverified'", [true; 5]),
        (INSTANCE, [true, false, true, false, false]),
        ("instance = 'p:r:other'", [true, false, false, false, false]),
        ("instance = 'q:r:db'", [true, false, false, false, false]),
    ] {
        let verifier = files.verifier(more);
        let verdicts = [&named, &other_name, &cloud_sql, &others, &old]
            .map(|it| verdict(&verifier, it, UnixTime::now()).is_ok());
        assert_eq!(verdicts, good, "{more}");
    }
}

/// A common name counts only where there are no names that certificates have for hosts.
#[test]
fn an_instance_is_not_known_by_a_name_among_others() {
    let files = Files::new();
    let verifier = files.verifier(INSTANCE);
    for params in [
        leaf("p:db", &["other.internal"]),
        leaf("p:db ", &[]),
        leaf("P:db", &[]),
    ] {
        let certificate = files.signed(&params);
        verdict(&verifier, &certificate, UnixTime::now()).expect_err("another");
    }
}

/// `openssl req -x509`, as PostgreSQL's manual has it: the certificate is its own CA.
#[test]
fn a_server_that_has_signed_for_itself_is_known_by_its_certificate() {
    let files = Files::new();
    let key = KeyPair::generate().expect("a key");
    let mut params = leaf("db.internal", &["db.internal"]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let own = params.self_signed(&key).expect("signed");
    let again = params.self_signed(&key).expect("signed");
    std::fs::write(files.dir.path().join("ca.pem"), own.pem()).expect("written");
    let verifier = files.verifier("");
    verdict(&verifier, own.der(), UnixTime::now()).expect("the same");
    assert!(own.der() != again.der() || own.pem() == again.pem());
    let late = UnixTime::since_unix_epoch(Duration::from_secs(5_000_000_000));
    verdict(&verifier, own.der(), late).expect_err("expired");
    let name = ServerName::try_from("other.internal").expect("a name");
    verifier
        .verify_server_cert(own.der(), &[], &name, &[], UnixTime::now())
        .expect_err("another name");
}
