//! What the record and people are told of a connection, and of the process that made it.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};

use super::{Caller, Refused};
use crate::{
    kernel::{Flow, knows_all_processes},
    masking::Shown,
    record::{Event, Process, Text},
    refusals::{self, RefusedBy},
};

impl Caller {
    pub(super) async fn record_connection(&self, name: Option<&str>) -> Result<(), Refused> {
        let Some(flow) = self.flow else { return Ok(()) };
        let event = Event::Connection {
            session: self.room.session.id.clone(),
            connection: self.id,
            destination: flow.destination,
            name: name.map(Into::into),
            process: Some(process(flow, self.house.masking.shown()).await),
        };
        let recorded = self.house.record.append_unsynced(event).await;
        recorded
            .map(drop)
            .map_err(|error| Refused(format!("it could not be recorded: {error}")))
    }

    pub(super) async fn refuse(&self, reason: &str) {
        // It may quote what the client said.
        let shown = self.house.masking.shown();
        let reason = &*shown.value("", reason);
        if !self.room.pace.allows(Instant::now()) {
            let refused = self.refused(reason, None);
            return self.house.refusals.note(refused, self.pid());
        }
        tracing::info!(session = %self.room.session.id, connection = self.id, reason, "connection refused");
        let process = match self.flow {
            Some(flow) => Some(process(flow, self.house.masking.shown()).await),
            None => None,
        };
        let refused = self.refused(reason, process.as_ref());
        self.house.refusals.note_recorded(refused, self.pid());
        let event = Event::ConnectionRefused {
            session: self.room.session.id.clone(),
            connection: self.id,
            destination: self.flow.map(|flow| flow.destination),
            reason: reason.into(),
            process,
        };
        if let Err(error) = self.house.record.append_unsynced(event).await {
            tracing::error!(%error, "a refused connection is missing in the record");
        }
    }

    /// For `holdpoint status`.
    fn refused(&self, reason: &str, process: Option<&Process>) -> refusals::Refused {
        let destination = match (&self.name, self.flow) {
            (Some(name), Some(flow)) => Some(format!("{name}:{}", flow.destination.port())),
            (None, Some(flow)) => Some(flow.destination.to_string()),
            (_, None) => None,
        };
        let executable = process.and_then(|it| it.executable.as_ref());
        let program = match executable {
            Some(path) => path.as_str().rsplit('/').next().map(Text::short),
            None => self.flow.map(|flow| Text::short(&flow.command())),
        };
        refusals::Refused {
            session: Some(self.room.session.id.clone()),
            by: RefusedBy::Proxy,
            process: program,
            destination: destination.map(|it| Text::short(&it)),
            reason: Text::short(reason),
        }
    }

    fn pid(&self) -> Option<u32> {
        self.flow.map(|flow| flow.pid)
    }
}

/// What the process says about itself that made a connection; of one that is gone already, what the kernel knew. To read it takes locks of that process's memory, which it can
/// keep for long: not on a thread that serves others, and not without end.
async fn process(flow: Flow, shown: Shown) -> Process {
    const PATIENCE: Duration = Duration::from_secs(1);
    static READERS: Semaphore = Semaphore::const_new(8);
    let reading = async {
        let turn = READERS.acquire().await.ok()?;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read_process(flow.pid, &shown)
        });
        read.await.ok()?
    };
    let read = timeout(PATIENCE, reading).await.ok().flatten();
    read.unwrap_or_else(|| Process {
        pid: flow.pid,
        executable: None,
        arguments: [flow.command()].iter().collect(),
    })
}

fn read_process(pid: u32, shown: &Shown) -> Option<Process> {
    const ARGUMENTS: usize = 64;
    // A process can say that its arguments are all of its memory (PR_SET_MM_MAP in prctl(2)).
    const BYTES: u64 = 64 << 10;
    if !knows_all_processes() {
        return None;
    }
    let mut arguments = Vec::new();
    let cmdline = std::fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    cmdline.take(BYTES).read_to_end(&mut arguments).ok()?;
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(&arguments);
    let arguments: Vec<_> = arguments
        .split(|byte| *byte == 0)
        .take(ARGUMENTS)
        .map(String::from_utf8_lossy)
        .collect();
    let executable = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    Some(Process {
        pid,
        executable: executable.map(|path| path.display().to_string().into()),
        arguments: shown
            .arguments(arguments.iter().map(AsRef::as_ref))
            .iter()
            .collect(),
    })
}
