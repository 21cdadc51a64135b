//! `cargo xtask bench hooks`: what the BPF programs add to a connect, to a datagram and to making a socket, for processes outside of
//! any session and for those in one. Attached and not attached alternate in one run, in a network namespace of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use holdpoint::kernel::{AgentsCgroup, Kernel, Network, SessionPorts, SessionRules, cgroup2_root};
use holdpoint_tests::program;
use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        utsname::uname,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};

/// Measures what the BPF programs cost.
#[derive(Parser)]
struct Args {
    /// How often each is measured, with the programs and without; medians are printed.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Operations in one measurement.
    #[arg(long, default_value_t = 5000)]
    operations: u32,
}

const PORTS: SessionPorts = SessionPorts {
    proxy: 15001,
    dns: 53,
};

fn main() -> ExitCode {
    program::end("bench hooks", run(&Args::parse()))
}

/// One thing to measure.
#[derive(Clone, Copy)]
struct Subject {
    name: &'static str,
    /// Which loopback address takes the place of one elsewhere, where nothing redirects.
    direct: &'static str,
    elsewhere: &'static str,
    operation: fn(SocketAddr) -> anyhow::Result<()>,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "TCP connect, accept, close",
        direct: "127.0.0.1:15001",
        elsewhere: "192.0.2.1:443",
        operation: |to| {
            let stream = TcpStream::connect(to)?;
            let proxy = PROXY.get().context("somebody listens")?;
            proxy.accept()?;
            // Closing with a reset leaves no port behind.
            reset_on_close(&stream)
        },
    },
    Subject {
        name: "UDP socket, bind, connect",
        direct: "127.0.0.1:53",
        elsewhere: "192.0.2.53:53",
        operation: |to| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            Ok(socket.connect(to)?)
        },
    },
    Subject {
        name: "UDP datagram",
        direct: "127.0.0.1:53",
        elsewhere: "192.0.2.53:53",
        operation: |to| {
            DATAGRAMS.with(|socket| socket.send_to(b"?", to))?;
            Ok(())
        },
    },
    Subject {
        name: "setsockopt (TCP_NODELAY)",
        direct: "127.0.0.1:15001",
        elsewhere: "127.0.0.1:15001",
        operation: |_| Ok(STREAM.with(|socket| socket.set_nodelay(true))?),
    },
];

thread_local! {
    static DATAGRAMS: UdpSocket = UdpSocket::bind("0.0.0.0:0").expect("a UDP socket");
    static STREAM: TcpStream = TcpStream::connect("127.0.0.1:15001").expect("a TCP connection");
}

fn reset_on_close(stream: &TcpStream) -> anyhow::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: pointer and length are of the value.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn run(args: &Args) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    // Subject, then: outsider without, outsider with, session without, session with.
    let mut measured: [[Vec<f64>; 4]; SUBJECTS.len()] = Default::default();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for attached in [round % 2 == 0, round % 2 == 1] {
            let kernel = attached.then(|| bench.attach()).transpose()?;
            for (subject, columns) in SUBJECTS.into_iter().zip(&mut measured) {
                let outside = bench.measure(subject, false, false, args.operations)?;
                let inside = bench.measure(subject, true, attached, args.operations)?;
                columns[usize::from(attached)].push(outside);
                columns[2 + usize::from(attached)].push(inside);
            }
            if let Some(kernel) = kernel {
                bench.detach(kernel)?;
            }
        }
    }
    print(args, &mut measured);
    Ok(())
}

struct Bench {
    root: PathBuf,
    agents: AgentsCgroup,
    session: PathBuf,
    pins: PathBuf,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("this takes root")?;
        let up = process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .context("cannot run `ip`: install iproute2")?;
        ensure!(up.success(), "cannot set loopback up");
        listen()?;
        let root = cgroup2_root()?;
        let name = format!("holdpoint-bench-{}", process::id());
        let agents = AgentsCgroup::create(&root, &name)?;
        let session = agents.path.join("session");
        fs::create_dir(&session)?;
        Ok(Self {
            root,
            agents,
            session,
            pins: Path::new("/sys/fs/bpf").join(name),
        })
    }

    fn attach(&self) -> anyhow::Result<Kernel> {
        let rules = SessionRules {
            ports: PORTS,
            network: Network::Own,
        };
        let id = fs::metadata(&self.session)?.ino();
        Kernel::attach(&self.pins, &self.root, &self.agents, &[(id, rules)], None)
    }

    /// The kernel detaches programs some time after their last pin is gone.
    fn detach(&self, kernel: Kernel) -> anyhow::Result<()> {
        drop(kernel);
        fs::remove_dir_all(&self.pins)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // Refused while they are there.
            let stray = in_process(|| {
                enter(&self.agents.path)?;
                UdpSocket::bind("127.0.0.1:0")?;
                Ok(0.0)
            });
            if stray.is_ok() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the programs stay attached");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nanoseconds for one operation in a process of its own.
    fn measure(
        &self,
        subject: Subject,
        session: bool,
        redirected: bool,
        operations: u32,
    ) -> anyhow::Result<f64> {
        let to = match redirected {
            true => subject.elsewhere,
            false => subject.direct,
        };
        let to = to.parse::<SocketAddr>()?;
        in_process(|| {
            if session {
                enter(&self.session)?;
            }
            for _ in 0..operations / 10 {
                (subject.operation)(to)?;
            }
            let started = processor_time()?;
            for _ in 0..operations {
                (subject.operation)(to)?;
            }
            Ok((processor_time()? - started).as_nanos() as f64 / f64::from(operations))
        })
        .with_context(|| format!("{} to {to}", subject.name))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.pins);
        let _best_effort = fs::remove_dir(&self.session);
        let _best_effort = fs::remove_dir(&self.agents.path);
    }
}

/// Who is connected to. Each measuring process accepts its own connections: nobody has to be waited for.
static PROXY: OnceLock<TcpListener> = OnceLock::new();

/// And who is sent datagrams, and never reads them.
static RESOLVER: OnceLock<UdpSocket> = OnceLock::new();

fn listen() -> anyhow::Result<()> {
    let proxy = TcpListener::bind(("127.0.0.1", PORTS.proxy))?;
    let resolver = UdpSocket::bind(("127.0.0.1", PORTS.dns))?;
    ensure!(PROXY.set(proxy).is_ok() && RESOLVER.set(resolver).is_ok());
    Ok(())
}

/// The processor time this process has taken: others that run beside do not count.
fn processor_time() -> anyhow::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to the one value.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    nix::errno::Errno::result(result)?;
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}

fn enter(cgroup: &Path) -> anyhow::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot enter {}", cgroup.display()))
}

fn in_process(measure: impl FnOnce() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let (mut answer, tell) = std::io::pipe()?;
    // SAFETY: this process has one thread, so the child can go on as if nothing had happened.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let (code, text) = match measure() {
                Ok(value) => (0, value.to_string()),
                Err(error) => (1, format!("{error:#}")),
            };
            let _best_effort = (&tell).write_all(text.as_bytes());
            // SAFETY: ends the process without running the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(tell);
            let mut text = String::new();
            answer.read_to_string(&mut text)?;
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => Ok(text.parse()?),
                _ => anyhow::bail!("{text}"),
            }
        }
    }
}

fn print(args: &Args, measured: &mut [[Vec<f64>; 4]; SUBJECTS.len()]) {
    let kernel = uname().map(|name| name.release().to_string_lossy().into_owned());
    println!(
        "Linux {}, ns of processor time per operation, medians of {} rounds of {}\n",
        kernel.unwrap_or_default(),
        args.rounds,
        args.operations
    );
    println!("| operation | no programs | outsider | added | in a session | added |");
    println!("|---|---|---|---|---|---|");
    for (subject, columns) in SUBJECTS.iter().zip(measured) {
        let [outside, outside_attached, inside, inside_attached] =
            columns.each_mut().map(|column| median(column));
        println!(
            "| {} | {outside:.0} | {outside_attached:.0} | {:+.0} | {inside_attached:.0} | {:+.0} |",
            subject.name,
            outside_attached - outside,
            inside_attached - inside,
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
