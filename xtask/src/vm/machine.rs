//! One virtual machine: qemu, emulating (no KVM is needed), without any network. It ends itself, or is ended.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};

use super::image::Image;

/// Emulation on a busy host takes its time. What hangs ends here.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// A machine's own memory, in MiB.
const MEMORY: &str = "1536";

/// A running machine.
pub struct Machine {
    qemu: Child,
    results: Option<ChildStdout>,
}

impl Machine {
    /// Boots `image` with `payload` as its second disk; `console` gets what the kernel and systemd say. It ends with the thread that boots it.
    ///
    /// # Errors
    /// When qemu cannot be started.
    pub fn boot(image: &Image, payload: &Path, console: &Path) -> anyhow::Result<Self> {
        let drive =
            |disk: &Path, how: &str| format!("file={},format=raw,if=virtio,{how}", disk.display());
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "pc", "-accel", "tcg,thread=multi"])
            // An old processor: what newer ones have for speed (wide vectors) or against each other's tenants (mitigations, below) makes
            // emulation slower by half. Two of it, because some tests are about what happens at the same time.
            .args(["-cpu", "Nehalem", "-smp", "2", "-m", MEMORY])
            .args([
                "-nodefaults",
                "-nic",
                "none",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-kernel")
            .arg(&image.vmlinuz)
            .arg("-initrd")
            .arg(&image.initrd)
            .args([
                "-append",
                "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off",
            ])
            .args(["-drive", &drive(&image.disk, "snapshot=on")])
            .args(["-drive", &drive(payload, "readonly=on")])
            .args(["-serial", &format!("file:{}", console.display())])
            // The results. Ports of virtio's would want a driver, which this line does not.
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(console.with_extension("qemu"))?);
        // SAFETY: a system call, and nothing else, happens between fork and exec.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let mut qemu = command.spawn().context("cannot start qemu-system-x86_64")?;
        let results = qemu.stdout.take();
        Ok(Self { qemu, results })
    }

    /// Gives every line of the results to `line`, until the machine has ended.
    ///
    /// # Errors
    /// When it has not after [`LIMIT`].
    pub fn listen(mut self, mut line: impl FnMut(&str)) -> anyhow::Result<()> {
        let started = Instant::now();
        let results = BufReader::new(self.results.take().context("a pipe")?);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in results.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        loop {
            match told.recv_timeout(LIMIT.saturating_sub(started.elapsed())) {
                Ok(text) => line(&text),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => bail!("it has not ended after {LIMIT:?}"),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended, or is to.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
