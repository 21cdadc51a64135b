//! Stored bodies: a sled database beside each segment, and the thread that writes it.
//!
//! Tree `bodies`: a body's random name; its salt, the key of its content and the content's length. Tree `contents`: that key, a
//! keyed digest, so that equal contents are stored once in a segment, and the number of the piece; the piece, compressed.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hmac::{Hmac, Mac as _};
use lru::LruCache;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    BodyId, KeptBody, Salt,
    capture::{Body, Limits, Memory, Told},
    key::host_key,
};
use crate::record::{
    layout,
    segment::{Synced, TempCopy, open_sled},
};

/// Bytes of a compressed content in one value: sled wants values to be smaller than 128 KB.
const PIECE: usize = 64 * 1024;
/// The fastest level of zstd.
const LEVEL: i32 = 1;
/// Bodies that wait to be stored at most.
const QUEUE: usize = 4096;
/// Bodies that are brought to disk together at most, and how long the first of them waits for others.
const GROUP: usize = 256;
const GATHER: Duration = Duration::from_millis(50);
/// Between two attempts to store bodies again after a failure.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Databases of complete segments open at once.
const OPEN_DATABASES: NonZero<usize> = NonZero::new(4).expect("not zero");
/// Bytes of a body that is read at most, whatever its entry says.
const LONGEST: u64 = 1 << 30;

pub(super) struct Job {
    pub(super) told: Told,
    pub(super) salt: Salt,
    pub(super) body: Body,
}

/// The stored bodies of a record.
pub(in crate::record) struct Bodies {
    limits: Limits,
    memory: Arc<Memory>,
    jobs: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
}

/// What readers and the thread that writes share.
struct Shared {
    dir: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// The segment that bodies go to.
    segment: AtomicU64,
    /// Bytes of its database.
    bytes: AtomicU64,
    /// Why no bodies can be stored.
    trouble: Mutex<Option<String>>,
    databases: Mutex<LruCache<u64, Arc<Database>>>,
}

impl Bodies {
    /// Those of the record in this directory, of which the segment is written that begins at this event.
    pub(in crate::record) fn open(
        dir: &Path,
        limits: Limits,
        segment: u64,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            key: host_key(&dir.join("bodies.key"))?,
            segment: AtomicU64::new(segment),
            bytes: AtomicU64::new(0),
            trouble: Mutex::default(),
            databases: Mutex::new(LruCache::new(OPEN_DATABASES)),
        });
        let (jobs, waiting) = mpsc::sync_channel(QUEUE);
        let keeper = shared.clone();
        thread::Builder::new()
            .name("bodies".into())
            .spawn(move || keeper.run(&waiting))
            .context("cannot start the thread that stores bodies")?;
        Ok(Self {
            memory: Arc::new(Memory::new(limits.in_memory)),
            limits,
            jobs,
            shared,
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Bodies go to this segment from now on.
    pub(in crate::record) fn begin_segment(&self, first: u64) {
        self.shared.segment.store(first, Ordering::Relaxed);
        self.shared.bytes.store(0, Ordering::Relaxed);
    }

    /// Bytes on disk of what goes with the segment that is written.
    pub(in crate::record) fn segment_bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Why no bodies can be stored at the moment, if so.
    pub(in crate::record) fn trouble(&self) -> Option<String> {
        let trouble = self.shared.trouble.lock();
        trouble.expect("no panic while locked").clone()
    }

    /// Stores it, unless too many wait already, and tells the record.
    pub(super) fn store(&self, job: Job) {
        use mpsc::TrySendError::{Disconnected, Full};
        if let Err(Full(job) | Disconnected(job)) = self.jobs.try_send(job) {
            job.told.tell(None);
        }
    }

    /// A stored body; none if it was purged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(in crate::record) fn read(&self, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        self.shared.read(id)
    }

    /// Removes the bodies of a complete segment, if there are any.
    pub(in crate::record) fn purge(&self, first: u64, dying: &str) -> anyhow::Result<()> {
        // Locked, so that nobody opens them meanwhile, which would make them anew.
        let mut databases = self.shared.databases.lock().expect("no panic while locked");
        databases.pop(&first);
        layout::remove_dir(&layout::bodies(&self.shared.dir, first), dying)
    }
}

impl Shared {
    fn run(&self, jobs: &mpsc::Receiver<Job>) {
        loop {
            match jobs.recv_timeout(RETRY_EVERY) {
                Ok(first) => self.keep_group(gather(first, jobs)),
                Err(mpsc::RecvTimeoutError::Timeout) => self.try_again(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn keep_group(&self, group: Vec<Job>) {
        let kept = self.write_group(&group);
        self.note(&kept);
        match kept {
            Ok(ids) => {
                for (job, id) in group.into_iter().zip(ids) {
                    job.told.tell(Some(id));
                }
            }
            Err(_) => group.into_iter().for_each(|job| job.told.tell(None)),
        }
    }

    /// After a failure nobody may bring bodies any more, so this finds out whether they could be stored.
    fn try_again(&self) {
        if self
            .trouble
            .lock()
            .expect("no panic while locked")
            .is_some()
        {
            self.note(&self.write_group(&[]));
        }
    }

    fn note<T>(&self, result: &anyhow::Result<T>) {
        let mut trouble = self.trouble.lock().expect("no panic while locked");
        match result {
            Ok(_) if trouble.is_some() => tracing::info!("bodies can be stored again"),
            Err(error) if trouble.is_none() => {
                tracing::error!("bodies are missing in the record: {error:#}");
            }
            _ => {}
        }
        *trouble = result.as_ref().err().map(|error| format!("{error:#}"));
    }

    fn write_group(&self, group: &[Job]) -> anyhow::Result<Vec<BodyId>> {
        let segment = self.segment.load(Ordering::Relaxed);
        let database = self.database(segment)?;
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        let mut write = || {
            let ids = group.iter().map(|job| {
                let name =
                    database.write(&self.key, &mut compressor, job.salt, job.body.bytes())?;
                Ok(BodyId { segment, name })
            });
            let ids = ids.collect::<anyhow::Result<_>>()?;
            database.synced.sync(&database.sled)?;
            Ok(ids)
        };
        let ids = write().inspect_err(|_| {
            // sled answers nothing but the error from now on.
            self.databases
                .lock()
                .expect("no panic while locked")
                .pop(&segment);
        });
        self.bytes.store(database.synced.size(), Ordering::Relaxed);
        ids
    }

    fn database(&self, segment: u64) -> anyhow::Result<Arc<Database>> {
        let mut databases = self.databases.lock().expect("no panic while locked");
        if let Some(database) = databases.get(&segment) {
            return Ok(database.clone());
        }
        self.open(segment, &mut databases)
    }

    fn open(
        &self,
        segment: u64,
        databases: &mut LruCache<u64, Arc<Database>>,
    ) -> anyhow::Result<Arc<Database>> {
        let database = Arc::new(Database::open(&layout::bodies(&self.dir, segment))?);
        databases.put(segment, database.clone());
        Ok(database)
    }

    /// Of a segment that has bodies.
    fn existing(&self, segment: u64) -> anyhow::Result<Option<Arc<Database>>> {
        let mut databases = self.databases.lock().expect("no panic while locked");
        // Opening would make it.
        if !layout::bodies(&self.dir, segment).exists() {
            return Ok(None);
        }
        match databases.get(&segment) {
            Some(database) => Ok(Some(database.clone())),
            None => self.open(segment, &mut databases).map(Some),
        }
    }

    fn read(&self, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        match self.existing(id.segment)? {
            Some(database) => database.read(&id.name),
            None => Ok(None),
        }
    }
}

/// The bodies of a record that no daemon has open, a segment at a time.
#[derive(Default)]
pub(in crate::record) struct Offline(Option<(u64, Database, TempCopy)>);

impl Offline {
    /// A stored body; none if it was purged.
    pub(in crate::record) fn read(
        &mut self,
        dir: &Path,
        id: &BodyId,
    ) -> anyhow::Result<Option<KeptBody>> {
        let from = layout::bodies(dir, id.segment);
        if !from.exists() {
            return Ok(None);
        }
        let database = match self.0.take() {
            Some(open) if open.0 == id.segment => self.0.insert(open),
            _ => {
                let copy = TempCopy::of(&from)?;
                let database = Database::open(copy.path())?;
                self.0.insert((id.segment, database, copy))
            }
        };
        database.1.read(&id.name)
    }
}

fn gather(first: Job, jobs: &mpsc::Receiver<Job>) -> Vec<Job> {
    let deadline = Instant::now() + GATHER;
    let mut group = vec![first];
    while group.len() < GROUP
        && let Ok(job) = jobs.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        group.push(job);
    }
    group
}

struct Database {
    sled: sled::Db,
    bodies: sled::Tree,
    contents: sled::Tree,
    synced: Synced,
}

impl Database {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let sled = open_sled(path)?;
        Ok(Self {
            bodies: sled.open_tree("bodies")?,
            contents: sled.open_tree("contents")?,
            synced: Synced::new(path)?,
            sled,
        })
    }

    fn write(
        &self,
        key: &[u8; 32],
        compressor: &mut zstd::bulk::Compressor<'_>,
        salt: Salt,
        content: &[u8],
    ) -> anyhow::Result<[u8; 12]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
        mac.update(content);
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        if !self.contents.contains_key(piece_key(&key, 0))? {
            let compressed = compressor.compress(content)?;
            // The first piece last: it says that all are there.
            for (number, piece) in (0_u32..)
                .zip(compressed.chunks(PIECE))
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                self.contents.insert(piece_key(&key, number), piece)?;
            }
        }
        let mut name = [0; 12];
        getrandom::fill(&mut name).expect("the kernel gives random bytes");
        let length = (content.len() as u64).to_le_bytes();
        self.bodies
            .insert(name, [&salt.0[..], &key, &length].concat())?;
        Ok(name)
    }

    fn read(&self, name: &[u8; 12]) -> anyhow::Result<Option<KeptBody>> {
        const DAMAGED: &str = "a stored body is damaged";
        let Some(entry) = self.bodies.get(name)? else {
            return Ok(None);
        };
        let (salt, rest) = entry.split_first_chunk().context(DAMAGED)?;
        let (key, length) = rest.split_first_chunk::<32>().context(DAMAGED)?;
        let length = u64::from_le_bytes(length.try_into().context(DAMAGED)?);
        ensure!(length <= LONGEST, DAMAGED);
        let mut compressed = Vec::new();
        for piece in self.contents.scan_prefix(key) {
            compressed.extend_from_slice(&piece?.1);
        }
        let bytes =
            zstd::bulk::decompress(&compressed, usize::try_from(length)?).context(DAMAGED)?;
        ensure!(bytes.len() as u64 == length, DAMAGED);
        let salt = Salt(*salt);
        Ok(Some(KeptBody { salt, bytes }))
    }
}

fn piece_key(content: &[u8; 32], number: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(content);
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}
