//! What happens when the daemon dies, and when the next one comes.

use std::{collections::HashSet, fs, thread, time::Duration};

use crate::{
    Test,
    world::{World, connect, enter, greeted, in_process, is_eperm, udp},
};

pub const TESTS: &[Test] = &[
    ("everything_is_enforced_without_the_loader", |world| {
        world.kernel = None;
        world.only_in_session(|| is_eperm("QUIC", udp("0.0.0.0:0")?.connect("192.0.2.1:443")))?;
        // Redirected still; that nobody listens there any more is what the session's processes then see.
        world.only_in_session(|| {
            let peer = connect("192.0.2.1:443")?.peer_addr()?;
            anyhow::ensure!(peer == "192.0.2.1:443".parse()?);
            Ok(())
        })
    }),
    ("the_next_daemon_takes_over", |world| {
        let before = links(world)?;
        world.attach()?;
        anyhow::ensure!(links(world)? == before, "{:?}", links(world)?);
        let accepted = world.in_session(
            || greeted(&connect("192.0.2.1:443")?),
            |_| world.accept(&world.listeners.proxy_v4),
        )?;
        anyhow::ensure!(accepted.flow.is_some(), "no flow");
        Ok(())
    }),
    ("the_sessions_of_a_dead_daemon_are_closed", |world| {
        use holdpoint::kernel::Kernel;
        world.kernel = Some(Kernel::attach(
            &world.pins,
            &world.cgroup2_root,
            &world.agents,
            &[],
            None,
        )?);
        world.only_in_session(|| is_eperm("a socket", udp_socket()))
    }),
    (
        "a_daemon_that_died_while_taking_over_leaves_nothing_in_the_way",
        |world| {
            let expected = links(world)?;
            world.kernel = None;
            let links_dir = world.pins.join("links");
            fs::rename(links_dir.join("connect4"), links_dir.join("connect4_next"))?;
            fs::rename(
                links_dir.join("egress"),
                links_dir.join("of_an_older_version"),
            )?;
            world.attach()?;
            anyhow::ensure!(links(world)? == expected, "{:?}", links(world)?);
            Ok(())
        },
    ),
    ("adopted_sessions_see_no_gap", |world| {
        use crate::world::RULES;
        use holdpoint::kernel::Kernel;
        use std::{net::TcpListener, time::Instant};
        let listener: &TcpListener = &world.listeners.proxy_v4;
        // What is attached in its place is not ours.
        world.kernel = None;
        // Nobody accepts while the programs are loaded, which takes a slow host seconds.
        nix::sys::socket::listen(listener, nix::sys::socket::Backlog::new(4096)?)?;
        let (session, id) = (world.session.path.clone(), world.session.id);
        let sessions = [(id, RULES)];
        let (pins, root, agents) = (&world.pins, &world.cgroup2_root, &world.agents);
        // A set: on a slow host ports come round again, and a flow can be asked for once.
        let mut accepted = HashSet::new();
        let stop = agents.path.join("stop");
        let kernel = in_process(
            || {
                enter(&session)?;
                while !stop.exists() {
                    connect("192.0.2.1:443").map(drop)?;
                    udp("0.0.0.0:0")?.send_to(b"?", "192.0.2.53:53")?;
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            },
            |_| {
                let accept = |accepted: &mut HashSet<_>| -> anyhow::Result<()> {
                    while let Ok((stream, client)) = listener.accept() {
                        accepted.insert((client, stream.local_addr()?));
                    }
                    Ok(())
                };
                let mut kernel = None;
                let attached = (0..5).try_for_each(|_| {
                    kernel = Some(Kernel::attach(pins, root, agents, &sessions, None)?);
                    accept(&mut accepted)?;
                    let until = Instant::now() + Duration::from_millis(20);
                    while Instant::now() < until {
                        accept(&mut accepted)?;
                    }
                    Ok::<_, anyhow::Error>(())
                });
                fs::create_dir(&stop)?;
                attached?;
                anyhow::Context::context(kernel, "attached")
            },
        );
        fs::remove_dir(&stop)?;
        let kernel = kernel?;
        let without = accepted
            .iter()
            .filter(|(client, local)| kernel.flow(id, *client, *local).is_none())
            .count();
        anyhow::ensure!(accepted.len() > 50, "only {} connections", accepted.len());
        anyhow::ensure!(
            without == 0,
            "{without} of {} without a flow",
            accepted.len()
        );
        Ok(())
    }),
    ("there_is_no_gap_while_it_takes_over", |world| {
        // UDP to a neighbour is refused with every combination of old and new programs.
        let session = world.session.path.clone();
        let stop = world.agents.path.join("stop");
        let result = in_process(
            || {
                let socket = udp("0.0.0.0:0")?;
                enter(&session)?;
                let mut tries = 0_u64;
                while !stop.exists() {
                    is_eperm("QUIC", socket.send_to(b"?", "198.51.100.1:443"))?;
                    is_eperm("UDP", socket.send_to(b"?", "198.51.100.1:9999"))?;
                    tries += 1;
                }
                anyhow::ensure!(tries > 100, "only {tries} tries");
                Ok(())
            },
            |_| {
                let attached = (0..5).try_for_each(|_| {
                    thread::sleep(Duration::from_millis(50));
                    world.attach()
                });
                fs::create_dir(&stop)?;
                attached
            },
        );
        fs::remove_dir(&stop)?;
        result
    }),
];

fn links(world: &World) -> anyhow::Result<Vec<String>> {
    let mut names = fs::read_dir(world.pins.join("links"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn udp_socket() -> std::io::Result<std::net::UdpSocket> {
    std::net::UdpSocket::bind("127.0.0.1:0")
}
