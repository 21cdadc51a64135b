//! Services of the host behind UNIX sockets that would resolve names, start processes or open sessions for whoever asks.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use super::{Attack, Scene, arrive, succeed};
use crate::{doctor::stage::places::RUNTIME, launch::TEMPORARY_SOCKET};

/// Sockets that the doctor stands in for.
pub const STAND_INS: &[&str] = &[
    "/run/dbus/system_bus_socket",
    "/run/user/65534/bus",
    "/run/user/65534/systemd/private",
    "/run/systemd/private",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/libvirt/libvirt-sock",
    "/run/snapd.socket",
    "/run/nscd/socket",
    "/run/avahi-daemon/socket",
    "/run/postgresql/.s.PGSQL.5432",
    "/mnt/agent.sock",
];

pub const ATTACKS: &[Attack] = &[
    arrive("dbus-system", "the system's D-Bus (systemd-run)", |scene| {
        ask(scene, "/run/dbus/system_bus_socket")
    }),
    arrive("dbus-user", "the user's D-Bus", |scene| {
        ask(scene, "/run/user/65534/bus")
    }),
    arrive(
        "systemd-user",
        "the user's systemd (systemd-run --user)",
        |scene| ask(scene, "/run/user/65534/systemd/private"),
    ),
    arrive("systemd-system", "the system's systemd", |scene| {
        ask(scene, "/run/systemd/private")
    }),
    arrive("resolved", "systemd-resolved", |scene| {
        ask(scene, "/run/systemd/resolve/io.systemd.Resolve")
    }),
    arrive("docker", "docker", |scene| ask(scene, "/run/docker.sock")),
    arrive("docker-var-run", "docker, by /var/run", |scene| {
        ask(scene, "/var/run/docker.sock")
    }),
    arrive("containerd", "containerd", |scene| {
        ask(scene, "/run/containerd/containerd.sock")
    }),
    arrive("podman", "podman", |scene| {
        ask(scene, "/run/podman/podman.sock")
    }),
    arrive("crio", "CRI-O", |scene| ask(scene, "/run/crio/crio.sock")),
    arrive("libvirt", "libvirt", |scene| {
        ask(scene, "/run/libvirt/libvirt-sock")
    }),
    arrive("snapd", "snapd", |scene| ask(scene, "/run/snapd.socket")),
    arrive("nscd", "the name service cache", |scene| {
        ask(scene, "/run/nscd/socket")
    }),
    arrive("avahi", "Avahi", |scene| {
        ask(scene, "/run/avahi-daemon/socket")
    }),
    arrive("any-in-run", "a service that nobody thought of", |scene| {
        ask(scene, "/run/postgresql/.s.PGSQL.5432")
    }),
    arrive(
        "any-elsewhere",
        "a socket in somebody's directory (gpg-agent, tmux)",
        |scene| ask(scene, "/mnt/agent.sock"),
    ),
    succeed("control-socket", "Holdpoint's own control API", |_| {
        UnixStream::connect(Path::new(RUNTIME).join("control.sock")).map(drop)
    }),
    succeed(
        "run-socket",
        "another session, of a token of one's own",
        |_| UnixStream::connect(Path::new(RUNTIME).join("run.sock")).map(drop),
    ),
    succeed("launcher-socket", "a shim, to be told what to do", |_| {
        UnixStream::connect(Path::new(RUNTIME).join(TEMPORARY_SOCKET)).map(drop)
    }),
];

fn ask(scene: &Scene, path: &str) -> io::Result<()> {
    UnixStream::connect(path)?.write_all(&scene.line())
}
