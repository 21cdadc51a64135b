//! Where objects go: a directory, or a bucket of Cloud Storage. The one module that touches `object_store`.

mod google;

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use object_store::{
    Error, ObjectStore, PutMode, PutOptions, RetryConfig, gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem, path::Path, prefix::PrefixStore,
};

use super::name::Name;
use crate::{config::record::Destination, credential::Credentials, upstream::Upstream};

/// Puts objects there, each once.
#[derive(Debug)]
pub(super) struct Place {
    store: Arc<dyn ObjectStore>,
}

impl Place {
    /// The directory of this log there.
    pub(super) fn open(
        to: &Destination,
        log: &str,
        upstream: &Upstream,
        credentials: &Arc<Credentials>,
    ) -> anyhow::Result<Self> {
        let store: Arc<dyn ObjectStore> = match to {
            Destination::Directory(directory) => {
                // A mount that is not there is not to be replaced by a directory of this host's.
                ensure!(
                    directory.is_dir(),
                    "record.ship.directory, {}, is not there: mount or make it",
                    directory.display()
                );
                let own = directory.join(log);
                // What was written with care to root alone stays root's.
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&own)
                    .with_context(|| format!("cannot make {}", own.display()))?;
                let store = LocalFileSystem::new_with_prefix(&own)
                    .with_context(|| format!("cannot use {}", own.display()))?;
                Arc::new(store.with_fsync(true))
            }
            Destination::Bucket {
                name,
                prefix,
                endpoint,
            } => {
                let store = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(name)
                    .with_base_url(endpoint)
                    .with_http_connector(google::Connector(upstream.clone()))
                    .with_credentials(Arc::new(google::Credential(credentials.clone())))
                    .with_retry(once())
                    .build()
                    .with_context(|| format!("cannot use the bucket {name}"))?;
                let below: Path = [prefix.as_str(), log].join("/").into();
                Arc::new(PrefixStore::new(store, below))
            }
        };
        Ok(Self { store })
    }

    /// Puts an object there unless it is there.
    pub(super) async fn put(&self, name: &Name, bytes: Bytes) -> anyhow::Result<()> {
        self.put_at(&name.to_string(), bytes).await
    }

    /// The same for one that is not called after what is in it, and always the same.
    pub(super) async fn put_at(&self, name: &str, bytes: Bytes) -> anyhow::Result<()> {
        let create = PutOptions::from(PutMode::Create);
        let path = Path::from(name);
        match self.store.put_opts(&path, bytes.into(), create).await {
            // It came through before, and the answer did not.
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) if is_there_already(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot put {name} there")),
        }
    }
}

/// Whether a refusal is about what is there already. Whoever may create objects and nothing else (`roles/storage.objectCreator`) is refused
/// for the want of the permission to replace one, and it takes no other for a new one
/// (<https://cloud.google.com/storage/docs/json_api/v1/objects/insert>, "Required permissions"); so is whoever may, while a retention policy keeps it.
fn is_there_already(error: &Error) -> bool {
    const SAYS: [&str; 3] = [
        "storage.objects.delete",
        "retentionPolicyNotMet",
        "RetentionPolicyNotMet",
    ];
    let Error::PermissionDenied { source, .. } = error else {
        return false;
    };
    let causes = std::iter::successors(Some(&**source as &dyn std::error::Error), |it| it.source());
    let mut causes = causes.map(ToString::to_string);
    causes.any(|text| SAYS.iter().any(|it| text.contains(it)))
}

/// Whoever ships tries again, and tells of it.
fn once() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        retry_timeout: Duration::ZERO,
        ..RetryConfig::default()
    }
}
