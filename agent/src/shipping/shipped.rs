//! What was shipped, for whoever audits it: a copy of the directory, or of what lies in the bucket. Nothing of it is believed; names and
//! contents are held against each other, and the record itself is checked as always.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    iter::Peekable,
    path::{Path, PathBuf},
    vec,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    name::{Kind, Name},
    pack,
};
use crate::{
    audit::{check::link_of, lines::Lines},
    record::KeptBody,
};

/// Bytes of a line of events at most. An event has 128 KiB at most.
const LONGEST_EVENT: u64 = 1 << 20;
/// Bytes of a line with a body at most.
const LONGEST_BODY: u64 = 1 << 30;
/// Where one object tells again what others told before: so many hashes are kept to see whether it tells the same.
const REMEMBERED: usize = 1 << 18;

/// What was shipped of one log.
#[derive(Clone, Debug)]
pub struct Shipped(PathBuf);

/// Something is missing or not what its name says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flaws {
    /// First and last number of each row of events that no object has. What is missing at the end is for the checkpoints to tell.
    pub missing: Vec<(u64, u64)>,
    /// Objects whose bytes are not those that their names have the digest of.
    pub altered: Vec<String>,
}

impl Flaws {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (first, last) in &self.missing {
            writeln!(
                f,
                "Events {first} to {last} are missing: no object has them."
            )?;
        }
        for name in &self.altered {
            writeln!(
                f,
                "{name} was altered: its bytes are not those that it is named after."
            )?;
        }
        Ok(())
    }
}

/// An object tells something else than what its name says, or than what another one told.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {why}")]
pub struct Contradiction {
    /// Its name.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
}

impl Shipped {
    /// In this directory, or in the only one in it.
    ///
    /// # Errors
    /// When there are no events, or those of several logs.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let is_log = |dir: &Path| dir.join(Kind::Events.directory()).is_dir();
        if is_log(dir) {
            return Ok(Self(dir.to_owned()));
        }
        let context = || format!("cannot read {}", dir.display());
        let mut logs = Vec::new();
        for entry in fs::read_dir(dir).with_context(context)? {
            let path = entry.with_context(context)?.path();
            if is_log(&path) {
                logs.push(path);
            }
        }
        ensure!(
            logs.len() < 2,
            "{} has the records of {} hosts: name the directory of one",
            dir.display(),
            logs.len()
        );
        let log = logs.pop();
        log.map(Self)
            .with_context(|| format!("{} has no shipped events in it", dir.display()))
    }

    /// Where the checkpoints are.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join(Kind::Checkpoint.directory())
    }

    /// What is missing, and what was altered, as far as names tell.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn flaws(&self) -> anyhow::Result<Flaws> {
        let mut flaws = Flaws::default();
        let mut next = 1;
        for name in self.names(Kind::Events)? {
            if name.first > next {
                flaws.missing.push((next, name.first - 1));
            }
            next = next.max(name.last.saturating_add(1));
        }
        for kind in Kind::ALL {
            for name in self.names(kind)? {
                if self.digest(&name)? != name.digest {
                    flaws.altered.push(name.to_string());
                }
            }
        }
        Ok(flaws)
    }

    /// The lines of an export: each event once.
    ///
    /// # Errors
    /// When it cannot be read; each item, when that part of it cannot, or is a [`Contradiction`].
    pub fn lines(&self) -> anyhow::Result<Lines> {
        let names = self.names(Kind::Events)?.into_iter();
        Ok(Box::new(Events {
            shipped: self.clone(),
            names,
            open: None,
            links: VecDeque::new(),
            next: 1,
        }))
    }

    /// The bodies, by the events that tell of them.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn bodies(&self) -> anyhow::Result<Bodies> {
        let names = self.names(Kind::Bodies)?.into_iter().peekable();
        Ok(Bodies {
            shipped: self.clone(),
            names,
            open: None,
            ahead: None,
        })
    }

    /// In the order of the events. What else lies there is not ours.
    fn names(&self, kind: Kind) -> anyhow::Result<Vec<Name>> {
        let dir = self.0.join(kind.directory());
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let context = || format!("cannot read {}", dir.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).with_context(context)? {
            let file = entry.with_context(context)?.file_name();
            names.extend(file.to_str().and_then(|file| Name::parse(kind, file)));
        }
        names.sort();
        Ok(names)
    }

    fn open_object(&self, name: &Name) -> anyhow::Result<File> {
        File::open(self.0.join(name.to_string())).with_context(|| format!("cannot open {name}"))
    }

    fn digest(&self, name: &Name) -> anyhow::Result<[u8; 32]> {
        let mut file = self.open_object(name)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 256 * 1024];
        loop {
            let read = file.read(&mut piece);
            match read.with_context(|| format!("cannot read {name}"))? {
                0 => return Ok(hasher.finalize().into()),
                count => hasher.update(&piece[..count]),
            }
        }
    }

    fn text(&self, name: Name, longest: u64) -> anyhow::Result<Text> {
        let decoder = zstd::Decoder::new(self.open_object(&name)?);
        let decoder = decoder.with_context(|| format!("cannot read {name}"))?;
        Ok(Text {
            name,
            longest,
            reader: BufReader::with_capacity(256 * 1024, decoder),
        })
    }
}

/// The lines of one object.
struct Text {
    name: Name,
    longest: u64,
    reader: BufReader<zstd::Decoder<'static, BufReader<File>>>,
}

impl Text {
    fn line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(self.longest);
        let read = limited.read_until(b'\n', &mut line);
        read.map_err(|error| self.contradicts(&format!("it cannot be decompressed: {error}")))?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(self.contradicts("it does not end with a line").into()),
        }
    }

    fn contradicts(&self, why: &str) -> Contradiction {
        Contradiction {
            object: self.name.to_string(),
            why: why.to_owned(),
        }
    }
}

struct Events {
    shipped: Shipped,
    names: vec::IntoIter<Name>,
    /// The object that is read, and the number of its next line.
    open: Option<(Text, u64)>,
    /// Of the last events that were told.
    links: VecDeque<holdpoint_core::merkle::Node>,
    /// The number of the next event to tell.
    next: u64,
}

impl Iterator for Events {
    type Item = anyhow::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fetch().transpose()
    }
}

impl Events {
    fn fetch(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let Some((text, seq)) = &mut self.open else {
                let Some(name) = self.names.next() else {
                    return Ok(None);
                };
                let text = self.shipped.text(name, LONGEST_EVENT)?;
                self.open = Some((text, name.first));
                continue;
            };
            let (line, at, last) = (text.line()?, *seq, text.name.last);
            *seq += 1;
            match line {
                None if at == last + 1 => self.open = None,
                Some(line) if at <= last => {
                    if self.is_new(&line, at)? {
                        return Ok(Some(line));
                    }
                }
                _ => {
                    let why = "it has not as many events as its name says";
                    return Err(text.contradicts(why).into());
                }
            }
        }
    }

    /// Whether it was not told before; what was has to be the same.
    fn is_new(&mut self, line: &[u8], at: u64) -> anyhow::Result<bool> {
        let link = link_of(line);
        if at >= self.next {
            // What is no event is for whoever checks the chain to say.
            self.links.push_back(link.unwrap_or_else(|| [0; 32].into()));
            if self.links.len() > REMEMBERED {
                self.links.pop_front();
            }
            self.next = at + 1;
            return Ok(true);
        }
        let back = usize::try_from(self.next - at).ok();
        let told = back.and_then(|back| self.links.len().checked_sub(back));
        let told = told.and_then(|place| self.links.get(place));
        if link.is_some() && told == link.as_ref() {
            return Ok(false);
        }
        let name = self.open.as_ref().map(|(text, _)| text.name.to_string());
        Err(Contradiction {
            object: name.unwrap_or_default(),
            why: format!("it tells of event {at} something else than an object before it"),
        }
        .into())
    }
}

/// The bodies, in the order of the events that tell of them.
pub struct Bodies {
    shipped: Shipped,
    names: Peekable<vec::IntoIter<Name>>,
    open: Option<Text>,
    ahead: Option<(u64, KeptBody)>,
}

impl Bodies {
    /// The body that event `seq` tells of, if it was shipped. To be asked in the order of the events.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_event(&mut self, seq: u64) -> anyhow::Result<Option<KeptBody>> {
        loop {
            match &self.ahead {
                Some((at, _)) if *at > seq => return Ok(None),
                Some((at, _)) if *at == seq => return Ok(self.ahead.take().map(|(_, body)| body)),
                _ => {}
            }
            let Some(text) = &mut self.open else {
                // An object whose first body is of a later event can wait: one between them may tell again what was told.
                match self.names.next_if(|name| name.first <= seq) {
                    Some(name) => self.open = Some(self.shipped.text(name, LONGEST_BODY)?),
                    None => return Ok(None),
                }
                continue;
            };
            match text.line()? {
                None => (self.open, self.ahead) = (None, None),
                Some(line) => {
                    let body = pack::body(&line);
                    let body = body.map_err(|error| text.contradicts(&format!("{error:#}")))?;
                    self.ahead = Some(body);
                }
            }
        }
    }
}
