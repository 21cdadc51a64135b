//! What the service manager is told: `sd_notify(3)`, and the watchdog's sign of life (`sd_watchdog_enabled(3)`).
//! Outside of systemd all of it does nothing.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// One state change, as sd_notify(3) spells it: `READY=1`.
pub fn notify(state: &str) {
    if let Err(error) = send(state) {
        tracing::warn!(%error, state, "systemd could not be notified");
    }
}

fn send(state: &str) -> io::Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match socket.as_bytes() {
        // An abstract one, as service managers other than PID 1 have it.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

/// Signs of life, as often as the unit's `WatchdogSec=` asks for them. To be given where a daemon that hangs does not come by.
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// What the environment asks for. Needs a tokio runtime.
    #[must_use]
    pub fn from_environment() -> Self {
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // Without WATCHDOG_PID it is meant for whoever reads it.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let timeout = number("WATCHDOG_USEC").filter(|timeout| is_ours && *timeout > 0);
        Self(timeout.map(|timeout| {
            // sd_watchdog_enabled(3) recommends half of it; a third leaves room for one that is late.
            let mut signs = interval(Duration::from_micros(timeout.div_ceil(3)));
            signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
            signs
        }))
    }

    /// Returns when a sign is due; never, where none is asked for. Cancel-safe.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(signs) => _ = signs.tick().await,
            None => std::future::pending().await,
        }
    }
}
