//! What a host shares among all its users: directories for temporary files, and the sockets in them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use super::{Attack, Scene, arrive, succeed, victim::read_secret};
use crate::doctor::stage::places::{DROP, SHARED_DIRECTORIES, SHARED_SECRET};

/// Sockets that the doctor stands in for.
pub const STAND_INS: &[&str] = &[
    "/tmp/.X11-unix/X0",
    "/tmp/ssh-doctor/agent.1",
    "/tmp/tmux-65534/default",
];

pub const ATTACKS: &[Attack] = &[
    succeed("tmp-file", "read a file in the host's /tmp", |_| {
        read(SHARED_DIRECTORIES[0])
    }),
    succeed("var-tmp-file", "the same in /var/tmp", |_| {
        read(SHARED_DIRECTORIES[1])
    }),
    succeed("shm-file", "the same in /dev/shm", |_| {
        read(SHARED_DIRECTORIES[2])
    }),
    arrive(
        "tmp-drop",
        "leave a file in /tmp for somebody outside",
        |scene| leave(scene, SHARED_DIRECTORIES[0]),
    ),
    arrive("var-tmp-drop", "the same in /var/tmp", |scene| {
        leave(scene, SHARED_DIRECTORIES[1])
    }),
    arrive("shm-drop", "the same in /dev/shm", |scene| {
        leave(scene, SHARED_DIRECTORIES[2])
    }),
    arrive("x11", "an X server's socket in /tmp", |scene| {
        ask(scene, STAND_INS[0])
    }),
    arrive("ssh-agent", "an SSH agent's socket in /tmp", |scene| {
        ask(scene, STAND_INS[1])
    }),
    arrive("tmux", "a terminal multiplexer's socket in /tmp", |scene| {
        ask(scene, STAND_INS[2])
    }),
];

fn read(directory: &str) -> io::Result<()> {
    read_secret(File::open(Path::new(directory).join(SHARED_SECRET))?)
}

/// Somebody outside reads whatever turns up there.
fn leave(scene: &Scene, directory: &str) -> io::Result<()> {
    let place = Path::new(directory).join(DROP);
    fs::write(place.join(scene.name), scene.line())
}

fn ask(scene: &Scene, path: &str) -> io::Result<()> {
    UnixStream::connect(path)?.write_all(&scene.line())
}
