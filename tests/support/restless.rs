//! Sessions of the program `restless`, which asks for what is allowed and tries what is not.

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{
    sandbox::{Running, Sandbox},
    sniffer::{Rule, Sniffers},
    tally::{self, Follower, Tally},
    world::World,
};

/// An agent that runs it, one session after another.
#[derive(Debug)]
pub struct Restless<'w> {
    world: &'w World,
    name: String,
    sandbox: Sandbox<'w>,
    program: String,
    follower: Mutex<Follower>,
    sessions: AtomicU64,
}

/// A session of it.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// One of its processes.
    pub pid: u32,
    /// The command.
    pub running: Running,
}

impl<'w> Restless<'w> {
    /// In this world; the name is for sniffers to tell.
    ///
    /// # Panics
    /// When it was not built.
    #[must_use]
    pub fn new(world: &'w World, name: &str) -> Self {
        let sandbox = world.sandbox();
        Self {
            world,
            name: name.to_owned(),
            program: sandbox.program("restless"),
            follower: Mutex::new(Follower::of(sandbox.home())),
            sandbox,
            sessions: AtomicU64::new(0),
        }
    }

    /// What sniffers call its sessions.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a session, has its network watched, and only then lets the program begin. `None` when the session ended before,
    /// or there is no daemon to open it.
    ///
    /// # Errors
    /// When it lives and cannot be watched.
    pub fn start(&self, sniffers: &Sniffers) -> anyhow::Result<Option<Session>> {
        let home = self.sandbox.home();
        let announced = home.join(tally::SESSION);
        let _none = fs::remove_file(&announced);
        let sandbox = self.sandbox.clone().token(Some(self.world.issuer.token()));
        let place = home.to_str().context("a plain path")?;
        let patience = "RES_OPTIONS=timeout:1 attempts:2";
        let mut running = sandbox.start(&["env", patience, &self.program, place]);
        while !announced.exists() {
            if !running.is_running() {
                return Ok(None);
            }
            sleep(Duration::from_millis(5));
        }
        let id = fs::read_to_string(&announced)?;
        let Some(pid) = self.world.process_of(&id) else {
            return Ok(None);
        };
        if let Err(error) = sniffers.watch_process(&self.name, pid, Rule::Session) {
            ensure!(self.world.process_of(&id).is_none(), error);
            return Ok(None);
        }
        fs::write(home.join(tally::go(&id)), "")?;
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Session { id, pid, running }))
    }

    /// How many sessions it has had.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// How its attempts went so far.
    ///
    /// # Panics
    /// When another thread that asked did.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut follower = self.follower.lock().expect("no panic while locked");
        follower.sum().clone()
    }
}
