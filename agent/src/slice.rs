//! The slice of units that open sessions. A unit in it that has none reaches nothing: what runs there directly is nobody's.
//!
//! A slice that is stopped and started again is another cgroup, which the kernel has to be told of. Until it is, systemd's own filter holds
//! (`IPAddressDeny=` in `holdpoint-agents.slice`), which comes with the cgroup. Sessions are in cgroups elsewhere, that nobody stops.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::daemon::House;

/// Between two looks: a look is one stat(2), and nobody tells of cgroups by name.
const PAUSE: Duration = Duration::from_millis(100);

/// The slice's cgroup, if there is one now.
///
/// # Errors
/// When that cannot be told.
pub fn id(slice: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(slice) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(found?.ino())),
    }
}

/// Tells the kernel of every new cgroup of that name, for ever; it knows of `watched` already.
pub async fn watch(house: Arc<House>, slice: PathBuf, mut watched: Option<u64>) {
    let mut look = interval(PAUSE);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(Some(there)) = id(&slice) else {
            continue;
        };
        if watched == Some(there) {
            continue;
        }
        match house.kernel.watch_slice(&slice) {
            Ok(()) => watched = Some(there),
            // Gone again, most likely: the next look tells.
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
}
