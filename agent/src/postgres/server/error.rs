//! Why a database was not reached, for the operator and for the agent.

use std::{io, time::Duration};

use fallible_iterator::FallibleIterator as _;
use jiff::Timestamp;
use postgres_protocol::message::backend::ErrorResponseBody;
use rustls_pki_types::UnixTime;

use super::super::answer::Complaint;

/// Why there is no connection to a database.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address of it answers.
    #[error(
        "it cannot be reached: {0}. Check `dial` of its [[connection]], and whether the server runs"
    )]
    Unreachable(io::Error),
    /// Google does not tell the way to an instance of Cloud SQL, or nobody is there who should be.
    #[error(
        "there is no way to it as a Cloud SQL connector goes: {0:#}. Check `instance` of its [[connection]], whether the service account has the role \
         roles/cloudsql.client, and whether this host reaches the instance"
    )]
    NoWay(anyhow::Error),
    /// It took too long.
    #[error("it did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It speaks no TLS.
    #[error(
        "it does not speak TLS. Turn `ssl` on there, or say tls = \"off\" in its [[connection]]"
    )]
    NoTls,
    /// The handshake failed, or its certificate is not good enough.
    #[error(
        "TLS with it failed: {}. Check tls, ca_file and server_name of its [[connection]], and the server's certificate",
        in_words(.0)
    )]
    Tls(io::Error),
    /// There is nothing to log in with.
    #[error(
        "there is nothing to log in with: {0:#}. Correct it; it is read anew for each connection"
    )]
    Secret(anyhow::Error),
    /// It asks for something that it does not get.
    #[error("{0}")]
    NotGiven(&'static str),
    /// It does not prove that it knows the password.
    #[error(
        "SCRAM authentication failed: {0}. Either the password is another, or that is not the server: check user, password_file and dial of its [[connection]]"
    )]
    Scram(io::Error),
    /// It said no.
    #[error("it said: {message} (SQLSTATE {code}){}", advice(code))]
    Server {
        /// SQLSTATE.
        code: String,
        /// In its words.
        message: String,
    },
    /// It does not do what PostgreSQL does.
    #[error("{0}")]
    Protocol(&'static str),
    /// It broke off.
    #[error("it broke off: {0}")]
    Broken(#[from] io::Error),
}

impl ConnectError {
    pub(super) fn server(error: &ErrorResponseBody) -> Self {
        let mut code = String::new();
        let mut message = String::new();
        let mut fields = error.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = text(),
                b'M' => message = text(),
                _ => {}
            }
        }
        Self::Server { code, message }
    }

    /// What the agent is told, which has no part in how Holdpoint logs in.
    #[must_use]
    pub fn complaint(&self, entry: &str) -> Complaint {
        let of = |code: &str, problem: &str| {
            Complaint::new(
                code,
                format!("Holdpoint could not connect to the database \"{entry}\": {problem}"),
            )
        };
        let complaint = match self {
            Self::Server { code, message } if !is_about_us(code) => {
                return Complaint::new(code, message.clone());
            }
            Self::Unreachable(_) | Self::NoWay(_) => of("08001", "it cannot be reached"),
            Self::Late(_) => of("08001", "it does not answer"),
            Self::NoTls => of("08001", "it does not speak TLS"),
            Self::Tls(problem) => of("08001", &format!("TLS with it failed: {problem}")),
            Self::Broken(_) | Self::Protocol(_) => of("08006", "it broke off"),
            Self::Secret(_) | Self::NotGiven(_) | Self::Scram(_) | Self::Server { .. } => {
                of("28000", "Holdpoint cannot log in there")
            }
        };
        complaint.hint(format!(
            "Nothing in this session can mend that. The operator of this runner finds the reason in Holdpoint's log, and settles it in [[connection]] \"{entry}\"."
        ))
    }
}

/// What a server says of who logs in, SQLSTATE class 28, is the operator's business.
fn is_about_us(code: &str) -> bool {
    code.len() != 5 || code.starts_with("28")
}

/// Why TLS failed, where rustls has only a word for it.
fn in_words(error: &io::Error) -> String {
    use rustls::{CertificateError as Bad, Error};
    let Some(Error::InvalidCertificate(bad)) = error.get_ref().and_then(|it| it.downcast_ref())
    else {
        return error.to_string();
    };
    match bad {
        Bad::UnknownIssuer => {
            "no CA that is trusted for it has signed its certificate (UnknownIssuer)".to_owned()
        }
        Bad::Expired => "its certificate has expired".to_owned(),
        Bad::ExpiredContext { not_after, .. } => {
            format!("its certificate expired on {}", date(*not_after))
        }
        _ => error.to_string(),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d").to_string()
}

/// What to do about what a server says of who logs in.
fn advice(code: &str) -> &'static str {
    match is_about_us(code) {
        true => {
            ". Check user, and password_file, iam or certificate_file, of its [[connection]], and that its pg_hba.conf lets this host in"
        }
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError as Bad, Error};

    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_in_words() {
        let told = |bad| {
            let error = io::Error::other(Error::InvalidCertificate(bad));
            ConnectError::Tls(error).to_string()
        };
        assert!(told(Bad::UnknownIssuer).contains("no CA that is trusted"));
        let not_after = UnixTime::since_unix_epoch(Duration::from_secs(1_609_459_200));
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1_795_223_308));
        let told = told(Bad::ExpiredContext { time, not_after });
        assert!(told.contains("expired on 2021-01-01. Check tls"), "{told}");
    }
}
