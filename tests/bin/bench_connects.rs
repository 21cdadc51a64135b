//! `cargo xtask bench connects`: how many connections a second Holdpoint accepts and finds to be given up, and what processor time each takes,
//! beside a plain listener in the same run.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddrV4,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use holdpoint_tests::{
    footprint::processor_time,
    host,
    interrupts::Interrupts,
    program,
    world::{Settings, World},
};
use serde::Deserialize;
use tokio::{io::AsyncReadExt as _, net::TcpSocket};

/// Connections that wait to be accepted, as many as at Holdpoint's listeners.
const BACKLOG: u32 = 4096;

/// Measures a storm of connects to a plain listener, and from a session to Holdpoint, alternating.
#[derive(Parser)]
struct Args {
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often both are measured; the medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connects a second at most; without it, as many as there can be.
    #[arg(long)]
    rate: Option<u32>,
    /// Be the plain listener.
    #[arg(long, hide = true)]
    listen: bool,
}

/// What the storm prints.
#[derive(Deserialize)]
struct Said {
    attempts: u32,
    per_second: f64,
    slowest_us: u64,
    processor_us: u32,
}

/// Of one storm; microseconds.
#[derive(Clone, Copy)]
struct Measured {
    per_second: f64,
    client: f64,
    server: f64,
    slowest: f64,
}

impl Measured {
    fn both(&self) -> f64 {
        self.client + self.server
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.listen { listen() } else { run(&args) };
    program::end("bench connects", done)
}

fn run(args: &Args) -> anyhow::Result<()> {
    host::require()?;
    let interrupts = Interrupts::block()?;
    let world = World::with(&Settings::default().silent())?;
    interrupts.clean_up(world.remnants());
    let listener = Listener::start()?;
    let mut measured: [Vec<Measured>; 2] = Default::default();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        measured[0].push(to_listener(&listener, args)?);
        measured[1].push(to_holdpoint(&world, args)?);
    }
    print(args, &measured.map(|rounds| medians(&rounds)));
    Ok(())
}

fn to_listener(listener: &Listener, args: &Args) -> anyhow::Result<Measured> {
    let storm = std::env::current_exe()?.with_file_name("storm");
    let mut command = Command::new(&storm);
    command
        .arg("tcp")
        .args(["--to", &listener.address.to_string()]);
    measure(command, args, listener.child.id())
}

fn to_holdpoint(world: &World, args: &Args) -> anyhow::Result<Measured> {
    let agent = world.sandbox();
    let storm = agent.program("storm");
    measure(agent.command(&[&storm, "tcp"]), args, world.daemon_pid())
}

fn measure(mut storm: Command, args: &Args, server: u32) -> anyhow::Result<Measured> {
    storm
        .args(["--rate", &args.rate.unwrap_or(u32::MAX).to_string()])
        .args(["--seconds", &args.seconds.to_string()]);
    let before = processor_time(server)?;
    let output = storm.output()?;
    ensure!(
        output.status.success(),
        "the storm failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Said =
        serde_json::from_slice(&output.stdout).context("the storm printed something else")?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(said.attempts);
    Ok(Measured {
        per_second: said.per_second,
        client: each(Duration::from_micros(said.processor_us.into())),
        server: each(processor_time(server)? - before),
        slowest: said.slowest_us as f64,
    })
}

fn medians(rounds: &[Measured]) -> Measured {
    let median = |of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured {
        per_second: median(|it| it.per_second),
        client: median(|it| it.client),
        server: median(|it| it.server),
        slowest: median(|it| it.slowest),
    }
}

fn print(args: &Args, [plain, holdpoint]: &[Measured; 2]) {
    println!(
        "TCP connections that their client resets at once; medians of {} rounds of {} s; us of processor time per connection\n",
        args.rounds, args.seconds
    );
    println!("| to | client | server | both | of plain | connects/s | slowest connect, us |");
    println!("|---|---|---|---|---|---|---|");
    for (name, it) in [
        ("a plain listener", plain),
        ("Holdpoint, in a session", holdpoint),
    ] {
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} |",
            it.client,
            it.server,
            it.both(),
            it.both() / plain.both(),
            it.per_second,
            it.slowest,
        );
    }
    println!(
        "\n10,000 a second take {:.2} processors, {:.2} of them Holdpoint's daemon",
        holdpoint.both() / 100.0,
        holdpoint.server / 100.0
    );
}

/// What any server has to do: accept, wait for the first byte, close. The runtime is the daemon's.
fn listen() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let listener = socket.listen(BACKLOG)?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move { stream.read_u8().await.is_ok() });
        }
    })
}

/// The plain listener, in a process of its own, so that its time can be told.
struct Listener {
    child: Child,
    address: SocketAddrV4,
}

impl Listener {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--listen")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        let address = line.trim().parse();
        let address = address.with_context(|| format!("the plain listener said {line:?}"));
        if address.is_err() {
            let _gone = child.kill();
        }
        Ok(Self {
            child,
            address: address?,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
