//! Without its BPF programs there are no sessions: whatever takes one away ends them all, and the daemon with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    bpf, network,
    restless::Restless,
    sniffer::{Rule, Sniffers},
    world::World,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// From the loss to the death of the last process of a session.
const LIMIT: Duration = Duration::from_secs(2);

#[test]
fn a_removed_pin_ends_the_sessions() {
    ends_the_sessions("links/connect4 is gone", |world| {
        fs::remove_file(link(world, "connect4"))
    });
}

#[test]
fn a_link_detached_by_force_ends_the_sessions() {
    ends_the_sessions("connect6 was detached by force", |world| {
        bpf::detach_link(&link(world, "connect6"))
    });
}

#[test]
fn a_replaced_link_ends_the_sessions() {
    ends_the_sessions("links/egress is gone, or something else", |world| {
        fs::rename(link(world, "getpeername4"), link(world, "egress"))
    });
}

#[test]
fn a_replaced_map_ends_the_sessions() {
    ends_the_sessions("is gone, or something else", |world| {
        let maps = world.pins().join("maps");
        fs::rename(maps.join("FLOWS"), maps.join("SESSIONS"))
    });
}

#[test]
fn an_unmounted_bpffs_ends_the_sessions() {
    // One of the test's own, over the host's.
    network::keep_mounts_apart().expect("root may");
    let none = None::<&Path>;
    let own = || {
        let bpf = Some("bpf");
        mount(bpf, "/sys/fs/bpf", bpf, MsFlags::empty(), none)
    };
    own().expect("root may");
    ends_the_sessions("is gone, or something else", |_| {
        umount2("/sys/fs/bpf", MntFlags::MNT_DETACH)?;
        Ok(own()?)
    });
}

#[test]
fn a_cgroup_that_was_made_again_ends_the_daemon() {
    ends_the_sessions("is gone, or something else", |world| {
        let agents = world.agents_cgroup();
        fs::write(agents.join("cgroup.kill"), "1")?;
        while fs::remove_dir(&agents).is_err() {
            for session in fs::read_dir(&agents)?.flatten() {
                let _lives_still = fs::remove_dir(session.path());
            }
        }
        fs::create_dir(&agents)
    });
}

/// Has a session try what is not allowed, takes away what `loss` does, and sees to it that all ends before anything has left.
fn ends_the_sessions(says: &str, loss: impl FnOnce(&World) -> io::Result<()>) {
    network::enter_own().expect("a network");
    let world = World::start();
    let sniffers = Sniffers::start();
    let host = Rule::Host(world.services());
    sniffers.watch_here("host", host).expect("a sniffer");
    let client = Restless::new(&world, "session");
    let started = client.start(&sniffers).expect("it can be watched");
    let session = started.expect("a session");
    while client.tally().how_often("ask", "200") == 0 {
        sleep(Duration::from_millis(20));
    }
    let processes = world.agents_cgroup().join(&session.id).join("cgroup.procs");
    let processes = fs::read_to_string(processes).expect("it lives");
    assert!(processes.lines().count() >= 2, "{processes}");

    loss(&world).expect("root may");
    let lost = Instant::now();
    while processes.lines().any(lives) {
        assert!(lost.elapsed() < LIMIT, "{}", world.daemon_log());
        sleep(Duration::from_millis(5));
    }
    println!(
        "the session's processes lived for {:?} more",
        lost.elapsed()
    );
    let ended = world.daemon_ends_within(Duration::from_secs(10));
    let log = world.daemon_log();
    assert!(ended.is_some_and(|it| !it.success()), "{ended:?}\n{log}");
    assert!(
        log.contains("enforcement was lost") && log.contains(says),
        "{log}"
    );
    assert!(
        !client.tally().leaks.iter().any(|_| true),
        "{:?}",
        client.tally().leaks
    );
    let seen = sniffers.finish();
    assert!(seen.packets > 0 && seen.missed == 0, "{seen:?}");
    assert!(seen.strangers.is_empty(), "{:#?}", seen.strangers);

    world
        .start_daemon()
        .expect("the next one attaches them anew");
    world.assert_daemon_works("a loss of enforcement");
}

fn link(world: &World, program: &str) -> PathBuf {
    world.pins().join("links").join(program)
}

/// Whether a process has not ended; one that only waits for its parent to notice has.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
