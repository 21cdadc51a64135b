//! A network namespace with a way out, a session cgroup, its listeners, and processes to put into it.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
    time::Duration,
};

use anyhow::Context as _;
use holdpoint::kernel::{
    AgentsCgroup, Flow, Kernel, Network, Refusal, SessionPorts, SessionRules, cgroup2_root,
};
use holdpoint_tests::network;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        socket::SockaddrStorage,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, Uid, fork},
};

/// Where the listeners are. The resolver is not at 53, so that "left alone" and "redirected" differ.
pub const PORTS: SessionPorts = SessionPorts {
    proxy: 15001,
    dns: 5300,
};

/// Where the service's are.
pub const SERVICE_PORTS: SessionPorts = SessionPorts {
    proxy: 15_100,
    dns: 15_101,
};

/// The rules of the session that every test has.
pub const RULES: SessionRules = SessionRules {
    ports: PORTS,
    network: Network::Own,
};

/// The rules of the session that is in the host's network, which is here the tests' own.
pub const SERVICE_RULES: SessionRules = SessionRules {
    ports: SERVICE_PORTS,
    network: Network::Host,
};

/// How long anything here may take. Everything happens on this host, which may be an emulated one.
pub static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
    let is_emulated = env::var("CI").is_ok_and(|ci| ci == "vm");
    Duration::from_millis(if is_emulated { 3000 } else { 700 })
});

/// This namespace's own address on its way out, and a neighbour's, which swallows what it is sent.
pub const OWN: &str = "198.51.100.2:8080";
pub const NEIGHBOUR: &str = "198.51.100.1:9999";
pub const NEIGHBOUR_V6: &str = "[2001:db8:1::1]:9999";

/// Everything a test needs.
pub struct World {
    pub cgroup2_root: PathBuf,
    pub agents: AgentsCgroup,
    pub pins: PathBuf,
    pub session: Cgroup,
    pub listeners: Listeners,
    /// Those of the service, of which the kernel knows.
    pub service_listeners: Listeners,
    /// A slice of services, and one of them, which is a session in this network namespace.
    pub slice: Cgroup,
    pub service: Cgroup,
    pub kernel: Option<Kernel>,
}

/// A session's listeners, which a daemon would have.
pub struct Listeners {
    pub proxy_v4: TcpListener,
    pub proxy_v6: TcpListener,
    pub dns_tcp: TcpListener,
    pub dns_v4: UdpSocket,
    pub dns_v6: UdpSocket,
}

impl World {
    pub fn new() -> anyhow::Result<Self> {
        anyhow::ensure!(Uid::effective().is_root(), "this takes root");
        network()?;
        let cgroup2_root = cgroup2_root()?;
        let name = format!("holdpoint-test-{}", process::id());
        let agents = AgentsCgroup::create(&cgroup2_root, &name)?;
        let session = Cgroup::create(&agents.path.join("session"))?;
        let slice = Cgroup::create(&cgroup2_root.join(format!("{name}.slice")))?;
        let service = Cgroup::create(&slice.path.join("runner.service"))?;
        let mut world = Self {
            slice,
            service,
            pins: Path::new("/sys/fs/bpf").join(&name),
            cgroup2_root,
            agents,
            session,
            listeners: Listeners::bind(PORTS)?,
            service_listeners: Listeners::bind(SERVICE_PORTS)?,
            kernel: None,
        };
        world.attach()?;
        Ok(world)
    }

    /// Attaches everything anew, taking over what is attached, and opens the session.
    pub fn attach(&mut self) -> anyhow::Result<()> {
        let kernel = Kernel::attach(&self.pins, &self.cgroup2_root, &self.agents, &[], None)?;
        kernel.open_session(self.session.id, RULES)?;
        kernel.watch_slice(&self.slice.path)?;
        kernel.open_session(self.service.id, SERVICE_RULES)?;
        self.kernel = Some(kernel);
        self.lend(&self.service)
    }

    /// Makes the service's listeners a session's.
    pub fn lend(&self, session: &Cgroup) -> anyhow::Result<()> {
        let mut sockets = self.service_listeners.sockets();
        sockets.try_for_each(|socket| self.kernel().own_listener(session.id, socket))
    }

    /// Makes up for what the last test took away. (To attach anew where nothing is missing would take emulated machines a second and more.)
    pub fn renew(&mut self) -> anyhow::Result<()> {
        match self.kernel.take() {
            Some(kernel) if kernel.anchors(&self.pins).is_ok() => {
                for (session, rules) in [(&self.session, RULES), (&self.service, SERVICE_RULES)] {
                    kernel.close_session(session.id)?;
                    kernel.open_session(session.id, rules)?;
                }
                kernel.watch_slice(&self.slice.path)?;
                self.kernel = Some(kernel);
            }
            _ => self.attach()?,
        }
        self.listeners.drain();
        self.service_listeners.drain();
        Ok(())
    }

    pub fn kernel(&self) -> &Kernel {
        self.kernel.as_ref().expect("attached")
    }

    /// How often that was the reason.
    pub fn refusals_for(&self, reason: Refusal) -> anyhow::Result<u64> {
        let refusals = self.kernel().refusals()?;
        let found = refusals.iter().find(|(refusal, _)| *refusal == reason);
        Ok(found.context("a reason without a counter")?.1)
    }

    /// Detaches one program, and only that.
    pub fn detach(&self, program: &str) -> anyhow::Result<()> {
        let links = self.kernel().links();
        let link = links
            .iter()
            .find(|link| link.program == program)
            .with_context(|| format!("no link of {program} is pinned"))?;
        Ok(fs::remove_file(&link.pin)?)
    }

    /// Runs `probe` in a process of the session and `beside` in this one meanwhile; both have to succeed.
    pub fn in_session<T>(
        &self,
        probe: impl FnOnce() -> anyhow::Result<()>,
        beside: impl FnOnce(Pid) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        in_cgroup(&self.session, probe, beside)
    }

    /// Runs `probe` in a process of the session.
    pub fn only_in_session(
        &self,
        probe: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.in_session(probe, |_| Ok(()))
    }

    /// Runs `probe` in a process of the service and `beside` in this one meanwhile; both have to succeed.
    pub fn in_service<T>(
        &self,
        probe: impl FnOnce() -> anyhow::Result<()>,
        beside: impl FnOnce(Pid) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        in_cgroup(&self.service, probe, beside)
    }

    /// Runs `probe` in a process of the service.
    pub fn only_in_service(
        &self,
        probe: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.in_service(probe, |_| Ok(()))
    }

    /// Accepts one connection of the session at `listener`, answers it, and says what the kernel knows of it.
    pub fn accept(&self, listener: &TcpListener) -> anyhow::Result<Accepted> {
        self.accept_of(self.session.id, listener)
    }

    /// The same, of any session.
    pub fn accept_of(&self, session: u64, listener: &TcpListener) -> anyhow::Result<Accepted> {
        readable(listener).context("no connection reached the listener")?;
        let (mut stream, client) = listener.accept()?;
        let local = stream.local_addr()?;
        let flow = self.kernel().flow(session, client, local);
        stream.write_all(b"!")?;
        Ok(Accepted {
            client,
            local,
            flow,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kernel = None;
        let _best_effort = fs::remove_dir_all(&self.pins);
        self.session.remove();
        self.service.remove();
        self.slice.remove();
        let _best_effort = fs::remove_dir(&self.agents.path);
    }
}

/// A connection that reached a listener.
pub struct Accepted {
    pub client: SocketAddr,
    pub local: SocketAddr,
    pub flow: Option<Flow>,
}

impl Listeners {
    pub fn bind(ports: SessionPorts) -> anyhow::Result<Self> {
        let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        let listeners = Self {
            proxy_v4: TcpListener::bind((v4, ports.proxy))?,
            proxy_v6: TcpListener::bind((v6, ports.proxy))?,
            dns_tcp: TcpListener::bind((v4, ports.dns))?,
            dns_v4: UdpSocket::bind((v4, ports.dns))?,
            dns_v6: UdpSocket::bind((v6, ports.dns))?,
        };
        for tcp in [&listeners.proxy_v4, &listeners.proxy_v6, &listeners.dns_tcp] {
            tcp.set_nonblocking(true)?;
        }
        for udp in [&listeners.dns_v4, &listeners.dns_v6] {
            udp.set_nonblocking(true)?;
        }
        Ok(listeners)
    }

    fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [
            self.proxy_v4.as_fd(),
            self.proxy_v6.as_fd(),
            self.dns_tcp.as_fd(),
            self.dns_v4.as_fd(),
            self.dns_v6.as_fd(),
        ]
        .into_iter()
    }

    /// Forgets what nobody has asked for.
    pub fn drain(&self) {
        for tcp in [&self.proxy_v4, &self.proxy_v6, &self.dns_tcp] {
            while tcp.accept().is_ok() {}
        }
        for udp in [&self.dns_v4, &self.dns_v6] {
            while udp.recv_from(&mut [0; 64]).is_ok() {}
        }
    }
}

/// Answers one datagram at `resolver`.
pub fn answer(resolver: &UdpSocket) -> anyhow::Result<()> {
    let mut datagram = [0; 64];
    readable(resolver).context("no datagram reached the resolver")?;
    let (length, client) = resolver.recv_from(&mut datagram)?;
    resolver.send_to(&datagram[..length], client)?;
    Ok(())
}

/// Waits for [`PATIENCE`].
pub fn readable(fd: impl AsFd) -> anyhow::Result<()> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(*PATIENCE)?;
    anyhow::ensure!(
        poll(&mut fds, timeout)? == 1,
        "nothing came within {:?}",
        *PATIENCE
    );
    Ok(())
}

/// A cgroup of a test's.
pub struct Cgroup {
    pub path: PathBuf,
    pub id: u64,
}

impl Cgroup {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            id: fs::metadata(path)?.ino(),
            path: path.to_owned(),
        })
    }

    pub fn remove(&self) {
        let _best_effort = fs::remove_dir(&self.path);
    }
}

/// Moves this process into a cgroup.
pub fn enter(cgroup: &Path) -> anyhow::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot enter {}", cgroup.display()))
}

fn in_cgroup<T>(
    cgroup: &Cgroup,
    probe: impl FnOnce() -> anyhow::Result<()>,
    beside: impl FnOnce(Pid) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    in_process(
        || {
            enter(&cgroup.path)?;
            probe()
        },
        beside,
    )
}

/// A network namespace for this process, with loopback.
pub fn own_network() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    network::ip("link set lo up")
}

/// connect(2) with AF_UNSPEC.
pub fn disconnect(socket: impl AsFd) -> anyhow::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // SAFETY: pointer and length are of one address.
    let result = unsafe {
        libc::connect(
            socket.as_fd().as_raw_fd(),
            &raw const nowhere,
            size_of::<libc::sockaddr>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// setsockopt(2).
pub fn set_option(socket: impl AsFd, level: i32, name: i32, value: &[u8]) -> nix::Result<()> {
    // SAFETY: pointer and length are of the value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// connect(2), for sockets that std does not make.
pub fn connect_socket(socket: impl AsFd, to: &str) -> anyhow::Result<nix::Result<()>> {
    let to = SockaddrStorage::from(to.parse::<SocketAddr>()?);
    Ok(nix::sys::socket::connect(socket.as_fd().as_raw_fd(), &to))
}

/// bind(2), likewise.
pub fn bind_socket(socket: impl AsFd, local: &str) -> anyhow::Result<nix::Result<()>> {
    let local = SockaddrStorage::from(local.parse::<SocketAddr>()?);
    Ok(nix::sys::socket::bind(socket.as_fd().as_raw_fd(), &local))
}

/// Runs `probe` in a process of its own and `beside` in this one meanwhile. Where the probe fails, that is the error.
pub fn in_process<T>(
    probe: impl FnOnce() -> anyhow::Result<()>,
    beside: impl FnOnce(Pid) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (mut complaint, complain) = std::io::pipe()?;
    // SAFETY: this process has one thread, so the child can go on as if nothing had happened.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(complaint);
            let code = match probe() {
                Ok(()) => 0,
                Err(error) => {
                    let _best_effort = write!(&complain, "{error:#}");
                    1
                }
            };
            // SAFETY: ends the process without running the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(complain);
            let result = beside(child);
            let mut text = String::new();
            complaint.read_to_string(&mut text)?;
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => result,
                status => anyhow::bail!("{text} ({status:?})"),
            }
        }
    }
}

/// A TCP connection as a client would make it.
pub fn connect(to: &str) -> anyhow::Result<TcpStream> {
    TcpStream::connect_timeout(&to.parse()?, *PATIENCE)
        .with_context(|| format!("cannot connect to {to}"))
}

/// Waits for the listener's greeting.
pub fn greeted(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(*PATIENCE))?;
    let mut byte = [0];
    stream
        .read_exact(&mut byte)
        .context("the listener did not answer")
}

/// A UDP socket that does not wait for ever.
pub fn udp(local: &str) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(local).context("cannot make a UDP socket")?;
    socket.set_read_timeout(Some(*PATIENCE))?;
    Ok(socket)
}

/// socket(2).
pub fn socket(family: i32, kind: i32, protocol: i32) -> nix::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = Errno::result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Succeeds when `result` is EPERM.
pub fn is_eperm<T>(what: &str, result: Result<T, impl Into<std::io::Error>>) -> anyhow::Result<()> {
    match result.map_err(Into::into) {
        Ok(_) => anyhow::bail!("{what} was not refused"),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        Err(error) => anyhow::bail!("{what} was refused with {error} instead of EPERM"),
    }
}

/// A namespace with loopback and an interface behind which everything disappears.
fn network() -> anyhow::Result<()> {
    network::enter_own()?;
    // Whoever may make ping sockets is set per namespace; nobody, at first.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").context("cannot allow ping sockets")
}
