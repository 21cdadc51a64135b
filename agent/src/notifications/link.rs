//! Links that lead to one question, for one answer.
//!
//! A link says which approval it is about, how many answers counted when it was made, and until when it is good; an HMAC binds that to
//! the digest of what is asked. So it is used up by the next answer that counts, wherever that is given, over restarts too, without a
//! list of links. It opens nothing by itself: whoever follows it has to say who they are.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use holdpoint_core::digest::Digest;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::{
    approvals::{ApprovalId, ApprovalView},
    credential::read_private,
};

const PURPOSE: &[u8] = b"holdpoint answer link v1";
/// Bytes of the path of a link at most.
const LONGEST: usize = 160;

/// Makes links and knows its own.
#[derive(Debug)]
pub struct Links {
    origin: String,
    key: hmac::Key,
}

/// A link that was taken apart. Nothing in it is to be believed before [`Links::is_mine`] has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The approval it is about.
    pub approval: ApprovalId,
    /// How many answers counted when it was made.
    pub after: usize,
    /// Until when it is good, in seconds since the epoch.
    pub until: i64,
    tag: [u8; 32],
}

/// It is no link, or is none of this host's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this link is not one of this host's")]
pub struct NotALink;

impl Links {
    /// With the key in this file, which is made if it is not there. Links begin with `origin`.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn open(key_file: &Path, origin: String) -> anyhow::Result<Self> {
        let context = || format!("the key of answer links, {}", key_file.display());
        let key = match read_private(key_file) {
            Ok(key) => key,
            Err(_) if !key_file.exists() => make_key(key_file).with_context(context)?,
            Err(error) => return Err(error.context(context())),
        };
        anyhow::ensure!(
            key.len() == 32,
            "{} has {} bytes, not 32: remove it for another one",
            context(),
            key.len()
        );
        Ok(Self {
            origin,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }

    /// Where links begin: `https://HOST:PORT`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The link for the next answer.
    #[must_use]
    pub fn url(&self, view: &ApprovalView) -> String {
        let link = self.link(view);
        format!("{}{}", self.origin, link.path())
    }

    fn link(&self, view: &ApprovalView) -> Link {
        let mut link = Link {
            approval: view.id.clone(),
            after: view.decisions.len(),
            until: view.expires_at.as_second(),
            tag: [0; 32],
        };
        let tag = hmac::sign(&self.key, &link.signed(&view.digest));
        link.tag.copy_from_slice(tag.as_ref());
        link
    }

    /// Whether it was made here, about what has this digest.
    #[must_use]
    pub fn is_mine(&self, link: &Link, digest: &Digest) -> bool {
        hmac::verify(&self.key, &link.signed(digest), &link.tag).is_ok()
    }
}

impl Link {
    /// Reads `ID/AFTER/UNTIL/TAG`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, NotALink> {
        if text.len() > LONGEST {
            return Err(NotALink);
        }
        let parts: Vec<_> = text.split('/').collect();
        let [approval, after, until, tag] = parts[..] else {
            return Err(NotALink);
        };
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).map_err(|_| NotALink)?;
        let link = Self {
            approval: ApprovalId::named(approval),
            after: after.parse().map_err(|_| NotALink)?,
            until: until.parse().map_err(|_| NotALink)?,
            tag: tag.try_into().map_err(|_| NotALink)?,
        };
        // One link has one spelling.
        if link.text() == text {
            Ok(link)
        } else {
            Err(NotALink)
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.as_second() >= self.until
    }

    /// The path of its URL.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/a/{}", self.text())
    }

    fn text(&self) -> String {
        let tag = BASE64_URL_SAFE_NO_PAD.encode(self.tag);
        format!("{}/{}/{}/{tag}", self.approval, self.after, self.until)
    }

    /// Lengths go first, so that no part can be taken for another.
    fn signed(&self, digest: &Digest) -> Vec<u8> {
        let digest = digest.to_string();
        let id = self.approval.as_str();
        let mut signed = Vec::with_capacity(PURPOSE.len() + id.len() + digest.len() + 32);
        for part in [PURPOSE, id.as_bytes(), digest.as_bytes()] {
            signed.extend_from_slice(&(part.len() as u64).to_be_bytes());
            signed.extend_from_slice(part);
        }
        signed.extend_from_slice(&(self.after as u64).to_be_bytes());
        signed.extend_from_slice(&self.until.to_be_bytes());
        signed
    }
}

fn make_key(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; 32]);
    getrandom::fill(&mut key).context("the kernel gives no random bytes")?;
    let mut made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    made.write_all(&key)?;
    made.sync_all()?;
    Ok(key)
}
