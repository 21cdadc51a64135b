//! Stored bodies: a sled database beside each segment.
//!
//! Tree `bodies`: a body's random name; its salt and the key of its content. Tree `contents`: that key, a keyed digest, so
//! that equal contents are stored once, and the number of the piece; the piece, compressed.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, ensure};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    BodyId, KeptBody, Salt,
    capture::{Limits, Memory, Told},
};

/// Bytes of a compressed content in one value: sled wants values to be smaller than 128 KB.
const PIECE: usize = 64 * 1024;
/// The fastest level of zstd.
const LEVEL: i32 = 1;
/// Bodies that wait to be stored at most.
const QUEUE: usize = 1024;
/// Memory sled may use for its cache.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// A body in memory, and its share of what bodies may take up.
pub(super) struct Body {
    bytes: Vec<u8>,
    memory: Arc<Memory>,
}

impl Body {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        let bytes = Vec::new();
        Self { bytes, memory }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there was room.
    pub(super) fn extend(&mut self, more: &[u8]) -> bool {
        let has_room = self.memory.take(more.len());
        if has_room {
            self.bytes.extend_from_slice(more);
        }
        has_room
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes.len());
    }
}

struct Job {
    told: Told,
    salt: Salt,
    body: Body,
}

/// The stored bodies of a record.
pub(in crate::record) struct Bodies {
    dir: PathBuf,
    limits: Limits,
    memory: Arc<Memory>,
    jobs: mpsc::SyncSender<Job>,
    database: Arc<Database>,
}

struct Database {
    sled: sled::Db,
    bodies: sled::Tree,
    contents: sled::Tree,
    file: File,
    segment: u64,
    key: Zeroizing<[u8; 32]>,
}

impl Bodies {
    /// Opens those of the record in this directory.
    pub(in crate::record) fn open(dir: &Path, limits: Limits) -> anyhow::Result<Self> {
        let key = host_key(&dir.join("bodies.key"))?;
        let database = Arc::new(Database::open(dir, 1, key)?);
        let (jobs, waiting) = mpsc::sync_channel::<Job>(QUEUE);
        let keeper = database.clone();
        thread::Builder::new()
            .name("bodies".into())
            .spawn(move || waiting.iter().for_each(|job| keeper.keep(job)))
            .context("cannot start the thread that stores bodies")?;
        Ok(Self {
            dir: dir.to_owned(),
            memory: Arc::new(Memory::new(limits.in_memory)),
            limits,
            jobs,
            database,
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Stores it, unless too many wait already, and tells the record.
    pub(super) fn store(&self, told: Told, salt: Salt, body: Body) {
        use mpsc::TrySendError::{Disconnected, Full};
        if let Err(Full(job) | Disconnected(job)) = self.jobs.try_send(Job { told, salt, body }) {
            job.told.tell(None);
        }
    }

    /// A stored body; none if it was purged.
    pub(in crate::record) fn read(&self, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        ensure!(
            id.segment == self.database.segment,
            "there is no segment {} in {}",
            id.segment,
            self.dir.display()
        );
        self.database.read(&id.name)
    }
}

impl Database {
    fn open(dir: &Path, segment: u64, key: Zeroizing<[u8; 32]>) -> anyhow::Result<Self> {
        let dir = dir.join(format!("{segment:020}.bodies"));
        let sled = sled::Config::new()
            .path(&dir)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            .open()
            .with_context(|| format!("cannot open the stored bodies in {}", dir.display()))?;
        Ok(Self {
            bodies: sled.open_tree("bodies")?,
            contents: sled.open_tree("contents")?,
            file: File::open(dir.join("db"))?,
            sled,
            segment,
            key,
        })
    }

    fn keep(&self, Job { told, salt, body }: Job) {
        let kept = self.write(salt, body.bytes());
        drop(body);
        if let Err(error) = &kept {
            tracing::error!("a body is not stored: {error:#}");
        }
        told.tell(kept.ok());
    }

    fn write(&self, salt: Salt, content: &[u8]) -> anyhow::Result<BodyId> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("a key of any length");
        mac.update(content);
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        if self.contents.scan_prefix(key).next().is_none() {
            let compressed = zstd::bulk::compress(content, LEVEL)?;
            for (number, piece) in (0_u32..).zip(compressed.chunks(PIECE)) {
                self.contents.insert(piece_key(&key, number), piece)?;
            }
        }
        let mut name = [0; 12];
        getrandom::fill(&mut name).expect("the kernel gives random bytes");
        self.bodies.insert(name, [&salt.0[..], &key].concat())?;
        self.sled.flush()?;
        self.file.sync_data()?;
        Ok(BodyId {
            segment: self.segment,
            name,
        })
    }

    fn read(&self, name: &[u8; 12]) -> anyhow::Result<Option<KeptBody>> {
        let Some(entry) = self.bodies.get(name)? else {
            return Ok(None);
        };
        let (salt, key) = entry
            .split_first_chunk()
            .context("a stored body's entry is cut")?;
        let mut compressed = Vec::new();
        for piece in self.contents.scan_prefix(key) {
            compressed.extend_from_slice(&piece?.1);
        }
        let bytes = zstd::stream::decode_all(&*compressed).context("a stored body is damaged")?;
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

/// The key of this host's digests of contents, made once.
fn host_key(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let context = || format!("cannot read or make the key {}", path.display());
    let mut key = Zeroizing::new([0; 32]);
    match std::fs::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            ensure!(bytes.len() == 32, "the key {} is damaged", path.display());
            key.copy_from_slice(&bytes);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            getrandom::fill(&mut *key).expect("the kernel gives random bytes");
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(context)?;
            file.write_all(&*key).with_context(context)?;
            file.sync_all().with_context(context)?;
        }
        Err(error) => return Err(error).with_context(context),
    }
    Ok(key)
}
