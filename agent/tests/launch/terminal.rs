//! A terminal behaves as if the command had been run on it directly.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    mem::replace,
    os::{
        fd::AsRawFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, tcgetattr},
};

use crate::{
    Case,
    world::{TOKEN, UID, World},
};

pub const CASES: &[Case] = &[
    ("it_is_a_terminal", it_is_a_terminal),
    ("window_size", window_size),
    ("keys", keys),
    ("control_c", control_c),
    ("end_of_input", end_of_input),
    ("settings_are_put_back", settings_are_put_back),
    ("mixed_with_a_pipe", mixed_with_a_pipe),
    ("all_output_arrives", all_output_arrives),
    ("job_control", job_control),
    ("terminal_in_a_pipeline", terminal_in_a_pipeline),
    ("hang_up", hang_up),
    ("nothing_types_into_it", nothing_types_into_it),
];

/// A process on a terminal of its own.
struct Screen {
    master: File,
    slave: File,
    child: Child,
    seen: String,
}

/// A pty for the user `nobody` that no process inherits.
fn pty(size: Option<&Winsize>) -> (File, File) {
    let pty = openpty(size, None).expect("a pty");
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("is set");
    }
    std::os::unix::fs::fchown(&pty.slave, Some(UID), None).expect("is given away");
    (pty.master.into(), pty.slave.into())
}

impl Screen {
    fn new(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: 40,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (master, slave) = pty(Some(&size));
        let fd = || Stdio::from(slave.try_clone().expect("duplicates"));
        command.stdin(fd()).stdout(fd()).stderr(fd());
        Self::started(command, master, slave)
    }

    fn started(mut command: Command, master: File, slave: File) -> Self {
        let number = slave.as_raw_fd();
        let control = move || {
            nix::unistd::setsid()?;
            // SAFETY: takes an integer.
            match unsafe { libc::ioctl(number, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: setsid and ioctl may be called after fork.
        let child = unsafe { command.pre_exec(control) }
            .spawn()
            .expect("starts");
        Self {
            master,
            slave,
            child,
            seen: String::new(),
        }
    }

    fn run(world: &World, script: &str) -> Self {
        Self::new(world.client(&["bash", "-c", script]))
    }

    /// Reads on until `text` has appeared; forgets everything up to it.
    fn expect(&mut self, text: &str) -> &mut Self {
        let started = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return self;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "no {text:?} in {:?}",
                self.seen
            );
            self.read(100);
        }
    }

    fn read(&mut self, milliseconds: u16) -> usize {
        use std::os::fd::AsFd as _;
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(milliseconds)).expect("polls") == 0 {
            return 0;
        }
        let mut bytes = [0; 65536];
        let read = self.master.read(&mut bytes).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        read
    }

    fn type_in(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).expect("writes");
        self
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                while self.read(0) > 0 {}
                return status;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "does not end; seen: {:?}",
                self.seen
            );
            self.read(50);
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .expect("a terminal")
            .local_flags
            .contains(LocalFlags::ICANON)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Already gone: as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn it_is_a_terminal(world: &World) {
    let script = "test -t 0 && test -t 1 && test -t 2 && tty && echo controlling > /dev/tty; \
        ps -o tpgid=,pgid= -p $$ 2>/dev/null | { read a b; test \"$a\" = \"$b\" && echo foreground; }; exit 3";
    let mut screen = Screen::run(world, script);
    screen
        .expect("/dev/pts/")
        .expect("controlling\r\n")
        .expect("foreground\r\n");
    assert_eq!(screen.ended().code(), Some(3));
}

fn window_size(world: &World) {
    let script =
        "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut screen = Screen::run(world, script);
    screen.expect("40 100\r\n").expect("ready");
    let size = Winsize {
        ws_row: 30,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize.
    let set = unsafe { libc::ioctl(screen.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(set, 0);
    screen.expect("30 77\r\n");
    assert!(screen.ended().success());
}

fn keys(world: &World) {
    let mut screen = Screen::run(
        world,
        "echo name?; read name; echo hello $name; read -rsn1 key; echo key $key",
    );
    screen
        .expect("name?")
        .type_in("wörld\r")
        .expect("hello wörld\r\n");
    screen.type_in("q").expect("key q\r\n");
    assert!(screen.ended().success());
}

fn control_c(world: &World) {
    let mut screen = Screen::run(world, "echo ready; sleep 1000");
    screen.expect("ready").type_in("\x03");
    assert_eq!(screen.ended().signal(), Some(libc::SIGINT));
    let mut screen = Screen::run(
        world,
        "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.05; done",
    );
    screen.expect("ready").type_in("\x03").expect("caught");
    assert_eq!(screen.ended().code(), Some(8));
}

fn end_of_input(world: &World) {
    let mut screen = Screen::new(world.client(&["cat"]));
    screen
        .type_in("line\r")
        .expect("line\r\nline\r\n")
        .type_in("\x04");
    assert!(screen.ended().success());
}

fn settings_are_put_back(world: &World) {
    for script in [
        "stty raw -echo; echo ready; read -rn1 x",
        "echo ready; read x; kill -9 $$",
    ] {
        let mut screen = Screen::run(world, script);
        screen.expect("ready");
        assert!(screen.is_raw());
        screen.type_in("x\r");
        screen.ended();
        assert!(!screen.is_raw());
    }
    let mut screen = Screen::run(world, "echo ready; sleep 1000");
    screen.expect("ready");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(screen.child.id() as i32),
        nix::sys::signal::SIGTERM,
    )
    .expect("sends");
    assert_eq!(screen.ended().signal(), Some(libc::SIGTERM));
    assert!(!screen.is_raw());
}

/// `echo piped | holdpoint run -- ...` on a terminal.
fn mixed_with_a_pipe(world: &World) {
    let mut client = world.client(&[
        "bash",
        "-c",
        "cat; test -t 0 || echo no tty; test -t 1 && echo tty; read x < /dev/tty; echo key $x",
    ]);
    let (master, slave) = pty(None);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    client
        .stdin(reader)
        .stdout(slave.try_clone().expect("duplicates"))
        .stderr(slave.try_clone().expect("duplicates"));
    let mut screen = Screen::started(client, master, slave);
    writer.write_all(b"piped\n").expect("writes");
    drop(writer);
    screen
        .expect("piped\r\n")
        .expect("no tty\r\n")
        .expect("tty\r\n");
    // It asks for the terminal from the background, and gets it.
    screen.type_in("k\r").expect("key k\r\n");
    assert!(screen.ended().success());
}

fn all_output_arrives(world: &World) {
    let mut screen = Screen::run(world, "seq 1 20000; echo the end");
    screen.expect("\r\n19999\r\n20000\r\nthe end\r\n");
    assert!(screen.ended().success());
    for _ in 0..20 {
        let mut screen = Screen::run(world, "printf %0500d 7; echo :last");
        assert!(screen.ended().success());
        screen.expect(":last\r\n");
    }
}

/// A shell with job control around the client.
fn job_control(world: &World) {
    let launch = world.dir().join("launch");
    let run = format!(
        "{} client --socket {} --",
        launch.display(),
        world.socket().display()
    );
    let mut shell = Command::new("bash");
    shell
        // With -b it tells of jobs at once.
        .args(["--norc", "--noprofile", "-ib"])
        .env_clear()
        .envs([
            ("PATH", "/usr/bin:/bin"),
            ("HOLDPOINT_TOKEN", TOKEN),
            ("PS1", "$ "),
        ])
        .current_dir(world.dir().join("work"))
        .uid(UID)
        .gid(UID);
    let mut screen = Screen::new(shell);
    screen.expect("$ ").type_in(&format!(
        "{run} bash -c 'echo up; read x; echo got $x; exit 4'\r"
    ));
    screen
        .expect("up\r\n")
        .type_in("\x1a")
        .expect("Stopped")
        .expect("$ ");
    screen
        .type_in("echo still $((40+2))\r")
        .expect("still 42")
        .expect("$ ");
    screen
        .type_in("fg\r")
        .expect("bash -c")
        .type_in("typed\r")
        .expect("got typed\r\n")
        .expect("$ ");
    screen.type_in("echo code=$?\r").expect("code=4\r\n");
    // In the background it prints, and stops when it wants to read.
    screen.type_in(&format!(
        "{run} bash -c 'echo behind; read x; echo got $x' &\r"
    ));
    screen
        .expect("behind\r\n")
        .expect("Stopped")
        .type_in("fg\r")
        .expect("fg\r\n")
        .expect("bash -c")
        .type_in("more\r")
        .expect("got more\r\n")
        .expect("$ ");
    // A shell inside has jobs of its own.
    screen
        .type_in(&format!("{run} bash --norc --noprofile -ib\r"))
        .expect("$ ");
    screen
        .type_in("echo go; cat\r")
        .expect("\ngo\r\n")
        .type_in("a\r")
        .expect("a\r\na\r\n")
        .type_in("\x1a")
        .expect("Stopped")
        .expect("$ ");
    screen
        .type_in("exit 5\r")
        .expect("stopped jobs")
        .type_in("exit 5\r")
        .expect("exit\r\n")
        .expect("$ ")
        .type_in("echo code=$?\r")
        .expect("code=5\r\n");
    screen.type_in("exit\r");
    screen.ended();
}

fn terminal_in_a_pipeline(world: &World) {
    let launch = world.dir().join("launch");
    let run = format!(
        "{} client --socket {} --",
        launch.display(),
        world.socket().display()
    );
    let mut shell = Command::new("bash");
    shell
        .args([
            "-c",
            &format!(
                "{run} bash -c 'read x; echo got $x' | cat; x=$({run} echo substituted); echo $x"
            ),
        ])
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("HOLDPOINT_TOKEN", TOKEN)])
        .current_dir(world.dir().join("work"))
        .uid(UID)
        .gid(UID);
    let mut screen = Screen::new(shell);
    screen
        .type_in("line\r")
        .expect("got line\r\n")
        .expect("substituted\r\n");
    assert!(screen.ended().success());
}

fn hang_up(world: &World) {
    let mut screen = Screen::run(world, "echo ready; sleep 1000");
    screen.expect("ready");
    let nothing = || File::open("/dev/null").expect("opens");
    drop((
        replace(&mut screen.master, nothing()),
        replace(&mut screen.slave, nothing()),
    ));
    assert!(!screen.child.wait().expect("ends").success());
    world.all_ended();
}

fn nothing_types_into_it(world: &World) {
    let launch = world.dir().join("launch");
    let mut screen =
        Screen::new(world.client(&[launch.to_str().expect("UTF-8"), "probe", "typing"]));
    for _ in 0..5 {
        screen.expect("EPERM\r\n");
    }
    assert!(screen.ended().success());
}
