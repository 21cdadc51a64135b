//! The secrets of destinations, and the signature made with them (Standard Webhooks 1.0.0, "Signature scheme").

use std::path::Path;

use anyhow::{Context as _, ensure};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Uri;
use zeroize::Zeroizing;

use crate::{
    config::{Place, check_url, in_credentials_directory},
    credential::read_private,
};

/// "Between 24 bytes (192 bits) and 64 bytes (512 bits)."
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// While a secret is replaced, receivers know the old or the new one.
const MOST: usize = 4;

/// The keys that messages are signed with. The library wipes them when they are dropped.
pub(crate) struct Secrets(Vec<hmac::Key>);

impl Secrets {
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let context = || format!("the secret_file {}", file.display());
        let bytes = in_credentials_directory(file)
            .and_then(|file| read_private(&file))
            .with_context(context)?;
        Self::parse(&bytes).with_context(context)
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = str::from_utf8(bytes).map_err(|_| anyhow::anyhow!("is not text"))?;
        let lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
        let keys: Vec<_> = lines.map(key).collect::<anyhow::Result<_>>()?;
        ensure!(
            !keys.is_empty() && keys.len() <= MOST,
            "holds {} secrets; 1 to {MOST} are expected, one a line",
            keys.len()
        );
        Ok(Self(keys))
    }

    /// The value of `webhook-signature`: one signature for each secret.
    pub(crate) fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let signed = self.0.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(head.as_bytes());
            context.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        });
        signed.collect::<Vec<_>>().join(" ")
    }
}

fn key(line: &str) -> anyhow::Result<hmac::Key> {
    const EXPECTED: &str =
        "a secret is whsec_ and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)";
    let encoded = line.strip_prefix("whsec_").context(EXPECTED)?;
    let secret = BASE64_STANDARD.decode(encoded).map(Zeroizing::new);
    // What the decoder says may quote a part.
    let secret = secret.map_err(|_| anyhow::anyhow!(EXPECTED))?;
    ensure!(LENGTHS.contains(&secret.len()), EXPECTED);
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

/// A URL that may be a secret by itself: only its host is ever named.
pub(crate) struct SecretUrl(Uri);

impl SecretUrl {
    pub(crate) fn host(&self) -> Option<&str> {
        self.0.host()
    }

    pub(crate) fn reveal(&self) -> Uri {
        self.0.clone()
    }
}

/// The URL, from the file if it is in one.
pub(crate) fn url(place: &Place) -> anyhow::Result<SecretUrl> {
    let text = match place {
        Place::Url(url) => Zeroizing::new(url.clone()),
        Place::File(file) => {
            let context = || format!("the url_file {}", file.display());
            let bytes = in_credentials_directory(file)
                .and_then(|file| read_private(&file))
                .with_context(context)?;
            let text = str::from_utf8(&bytes).map_err(|_| anyhow::anyhow!("is not text"));
            Zeroizing::new(text.with_context(context)?.trim().to_owned())
        }
    };
    check_url(&text).map_err(anyhow::Error::msg)?;
    let uri = text.parse();
    Ok(SecretUrl(uri.map_err(|_| anyhow::anyhow!("not a URL"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification (standard-webhooks/standard-webhooks, libraries/python/tests).
    #[test]
    fn it_signs_as_the_specification_does() {
        let secrets =
            Secrets::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a secret");
        assert_eq!(
            secrets.signature(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn only_good_secrets_are_taken_and_none_is_quoted() {
        for bad in ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!"] {
            let error = Secrets::parse(bad.as_bytes()).err().expect(bad);
            assert!(bad.len() < 8 || !format!("{error:#}").contains(&bad[6..]));
        }
        let two =
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n\nwhsec_AfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
        let signature = Secrets::parse(two.as_bytes())
            .expect("two")
            .signature("a", 1, b"");
        assert_eq!(signature.split(' ').count(), 2);
    }
}
