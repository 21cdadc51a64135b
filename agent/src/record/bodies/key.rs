//! The key of this host's digests of contents.

use std::{fs::Permissions, io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, ensure};
use zeroize::Zeroizing;

use crate::record::layout;

/// The key in this file, made where there is none.
pub(super) fn host_key(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let context = || format!("cannot read or make the key {}", path.display());
    let mut key = Zeroizing::new([0; 32]);
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => {
            ensure!(bytes.len() == 32, "the key {} is damaged", path.display());
            key.copy_from_slice(&bytes);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            getrandom::fill(&mut *key).expect("the kernel gives random bytes");
            let file = layout::put(path, &*key).with_context(context)?;
            file.set_permissions(Permissions::from_mode(0o600))
                .with_context(context)?;
        }
        Err(error) => return Err(error).with_context(context),
    }
    Ok(key)
}
