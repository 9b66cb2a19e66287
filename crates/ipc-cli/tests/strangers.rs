//! Strangers at the socket: whoever is no peer of the run gets nothing, whether it comes once or without
//! end. With `sharedmem` there is nothing that they could come to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use common::leftovers::await_any;
use common::paths::default_paths;
use common::paused::Fifo;
use common::running::Running;
use common::{BEYOND_ALL_BUFFERS, RING, Sandbox, both, contents, skip};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A run of three peers that stands still when it has read this.
fn stand_still<'s>(sandbox: &'s Sandbox, fed: &[u8]) -> (Fifo, Running<'s>) {
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["3", "fifo"]).start();
    fifo.feed(&running, fed);
    (fifo, running)
}

/// Where the server listens, as everybody can find out.
fn address(running: &Running<'_>) -> Option<SocketAddr> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid().as_raw_pid())).unwrap();
    let targets = descriptors.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let own: Vec<_> = targets.map(|target| target.to_str().unwrap().to_owned()).collect();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let mut names = sockets.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(3);
        // The flag of one that listens.
        let listens = fields.next()? == "00010000";
        let inode = fields.nth(2)?;
        let is_own = own.contains(&format!("socket:[{inode}]"));
        fields.next().filter(|_| listens && is_own)?.strip_prefix('@')
    });
    names.next().map(|name| SocketAddr::from_abstract_name(name).unwrap())
}

/// Waits for the end of a stranger's connection; it must be the first thing that comes.
fn assert_gets_nothing(mut stranger: UnixStream) {
    await_any(&mut [PollFd::new(&stranger, PollFlags::IN)], "the end of a stranger's connection");
    let mut received = [0];
    // What it has not been sent, it may have been told in other words.
    assert_eq!(stranger.read(&mut received).unwrap_or(0), 0);
}

/// Makes the calling thread one of a user who may do nothing. The kernel has users of threads, whatever
/// C libraries make of them, and it is the thread that connects whom the server is told of.
fn become_nobody() {
    let (group, user) = (Gid::from_raw(65534), Uid::from_raw(65534));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
}

/// Strangers that come and go until nobody listens any more.
fn flood(address: &SocketAddr) {
    let mut connections = std::collections::VecDeque::new();
    while let Ok(connection) = UnixStream::connect_addr(address) {
        connections.push_back(connection);
        if connections.len() > 500 {
            connections.pop_front();
        }
    }
}

both!(a_stranger_gets_nothing, |sandbox| {
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    let (mut fifo, running) = stand_still(sandbox, &contents[..BEYOND_ALL_BUFFERS]);
    let address = address(&running);
    assert_eq!(address.is_none(), sandbox.is_sharedmem(), "{address:?}");
    if let Some(address) = address {
        for _ in 0..3 {
            assert_gets_nothing(UnixStream::connect_addr(&address).unwrap());
        }
        let mut speaker = UnixStream::connect_addr(&address).unwrap();
        // Nobody may read that, so it is no matter whether it can be written.
        let _ = std::io::Write::write_all(&mut speaker, &[0xff; 1000]);
        assert_gets_nothing(speaker);
    }
    fifo.feed(&running, &contents[BEYOND_ALL_BUFFERS..]);
    drop(fifo);
    running.finish().stores(&default_paths(3, "fifo"), contents);
});

both!(a_stranger_of_another_user_gets_nothing, |sandbox| {
    if !rustix::process::geteuid().is_root() {
        return skip("a stranger of another user", "only root can be somebody else");
    }
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    let (mut fifo, running) = stand_still(sandbox, &contents[..BEYOND_ALL_BUFFERS]);
    if let Some(address) = address(&running) {
        let connect = || {
            become_nobody();
            UnixStream::connect_addr(&address).unwrap()
        };
        let stranger = std::thread::scope(|scope| scope.spawn(connect).join().unwrap());
        assert_gets_nothing(stranger);
    }
    fifo.feed(&running, &contents[BEYOND_ALL_BUFFERS..]);
    drop(fifo);
    running.finish().stores(&default_paths(3, "fifo"), contents);
});

both!(a_flood_of_strangers_holds_nobody_up, |sandbox| {
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    let (mut fifo, running) = stand_still(sandbox, &contents[..BEYOND_ALL_BUFFERS]);
    let address = address(&running);
    std::thread::scope(|scope| {
        if let Some(address) = &address {
            (0..3).for_each(|_| _ = scope.spawn(|| flood(address)));
        }
        fifo.feed(&running, &contents[BEYOND_ALL_BUFFERS..]);
        drop(fifo);
        running.finish().stores(&default_paths(3, "fifo"), contents);
    });
});

both!(strangers_that_come_with_the_peers_keep_nobody_out, |sandbox| {
    let contents = contents(RING / 8);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["100", "fifo"]).start();
    std::thread::scope(|scope| {
        if !sandbox.is_sharedmem() {
            let mut looks = std::iter::repeat_with(|| address(&running));
            let address = looks.find_map(|address| address).unwrap();
            (0..3).for_each(|_| {
                _ = scope.spawn({
                    let address = address.clone();
                    move || flood(&address)
                })
            });
        }
        fifo.feed(&running, contents);
        drop(fifo);
        running.finish().stores(&default_paths(100, "fifo"), contents);
    });
});
