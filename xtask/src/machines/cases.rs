//! The list of cases: all goes well, and what users will meet when it does not.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::document::Script;
use super::scene::{BYTES, COPIES, Ended, HOSTS, Running, Scene};
use crate::files::first_difference;

/// What is checked; it says what it found.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&Scene) -> Result<String>,
}

pub(crate) const ALL: [Case; 7] = [
    Case { name: "sharedmem", check: sharedmem },
    Case { name: "socket; by way of a file", check: socket_and_file },
    Case { name: "the sender is killed", check: killed_sender },
    Case { name: "the source ends early", check: short_source },
    Case { name: "a host is missing", check: missing_host },
    Case { name: "a host is late", check: late_host },
    Case { name: "a host is lost", check: lost_host },
];

fn sharedmem(scene: &Scene) -> Result<String> {
    all_receive(scene, [&scene.document.receive; HOSTS])
}

fn socket_and_file(scene: &Scene) -> Result<String> {
    let socket = scene.document.receive.with("sharedmem", "socket")?;
    all_receive(scene, [&socket, &socket, &scene.document.stage])
}

fn all_receive(scene: &Scene, scripts: [&Script; HOSTS]) -> Result<String> {
    let hosts = start_all(scene, scripts, &scene.digest()?)?;
    let sender = scene.start(0, &scene.document.send, "")?;
    for (host, running) in (1..).zip(hosts) {
        running.wait()?.expect_success().with_context(|| format!("host {host}"))?;
        scene.check_copies(host)?;
    }
    sender.wait()?.expect_success()?;
    let sent = scene.sent_bytes()?;
    let limit = BYTES * HOSTS as u64;
    ensure!(sent < limit, "the sender sent {sent} bytes, as if to each host on its own");
    Ok(format!(
        "{} copies of {} MiB, for which the sender sent {} MiB",
        HOSTS * COPIES,
        BYTES >> 20,
        sent.div_ceil(1 << 20)
    ))
}

/// Receivers notice that they hear nothing more. Without a look at the status of the receiver, or at the
/// digest, half a file has names by then.
fn killed_sender(scene: &Scene) -> Result<String> {
    let digest = scene.digest()?;
    let feed = scene.feed_by_hand()?;
    let document = scene.document;
    let [receive, stage, pipe] = [&document.receive, &document.stage, &document.pipe]
        .map(|script| script.with("--receive-timeout 10", "--receive-timeout 3"));
    let hosts = start_all(scene, [&receive?, &stage?, &pipe?], &digest)?;
    let mut sender = scene.start(0, &document.send, "")?;
    let fifo = feed.give_half(&mut sender)?;
    sender.kill("udp-sender")?;
    drop(fifo);
    let [safe, staged, pipe] = end_all(hosts)?;
    sender.wait()?;
    for (host, ended) in [(1, safe), (2, staged)] {
        ended.expect_failure()?;
        scene.check_nothing(host)?;
    }
    ensure!(pipe.status.code() == Some(1), "the pipe: {}\n{}", pipe.status, pipe.said);
    let bytes = parts(scene, 3)?;
    ensure!((1..BYTES).contains(&bytes), "the pipe stored {bytes} bytes");
    Ok(format!("no copies; a pipe alone, status 1: {COPIES} parts of the source"))
}

/// To the sender, and so to the receivers, a part of the source is all of it.
fn short_source(scene: &Scene) -> Result<String> {
    let digest = scene.digest()?;
    let feed = scene.feed_by_hand()?;
    let document = scene.document;
    let hosts = start_all(scene, [&document.receive, &document.stage, &document.pipe], &digest)?;
    let mut sender = scene.start(0, &document.send, "")?;
    drop(feed.give_half(&mut sender)?);
    let [safe, staged, pipe] = end_all(hosts)?;
    sender.wait()?.expect_success().context("the sender")?;
    for (host, ended) in [(1, safe), (2, staged)] {
        ended.expect_failure()?;
        scene.check_nothing(host)?;
    }
    pipe.expect_success().context("the pipe")?;
    let bytes = parts(scene, 3)?;
    ensure!(bytes == BYTES / 2, "the pipe stored {bytes} bytes");
    Ok(format!("no copies; a pipe alone, status 0: {COPIES} halves of the source"))
}

/// Sender and receivers give up, and all of them say that all went well.
fn missing_host(scene: &Scene) -> Result<String> {
    let digest = scene.digest()?;
    let document = scene.document;
    let receive = impatient(&document.receive)?;
    let pipe = impatient(&document.pipe)?;
    let send = document.send.with("--start-timeout 60", "--start-timeout 4")?;
    let sender = scene.start(0, &send, "")?;
    let hosts = [scene.start(1, &receive, &digest)?, scene.start(2, &pipe, "")?];
    let [safe, pipe] = end_all(hosts)?;
    sender.wait()?.expect_success().context("the sender")?;
    pipe.expect_success().context("the pipe")?;
    let bytes = parts(scene, 2)?;
    ensure!(bytes == 0, "the pipe stored {bytes} bytes");
    safe.expect_failure()?;
    scene.check_nothing(1)?;
    Ok(format!("no copies; a pipe alone, status 0: {COPIES} empty files"))
}

/// Who comes after the beginning gets nothing, and harms nobody.
fn late_host(scene: &Scene) -> Result<String> {
    let digest = scene.digest()?;
    let feed = scene.feed_by_hand()?;
    let receive = &scene.document.receive;
    let hosts = [scene.start(1, receive, &digest)?, scene.start(2, receive, &digest)?];
    let send = scene.document.send.with("--min-receivers 3", "--min-receivers 3 --max-wait 2")?;
    let mut sender = scene.start(0, &send, "")?;
    let fifo = feed.give_half(&mut sender)?;
    let late = scene.start(3, &impatient(receive)?, &digest)?.wait()?;
    ensure!(late.status.code() == Some(255), "{}\n{}", late.status, late.said);
    scene.check_nothing(3)?;
    feed.give_rest(fifo)?;
    for (host, ended) in (1..).zip(end_all(hosts)?) {
        ended.expect_success()?;
        scene.check_copies(host)?;
    }
    sender.wait()?.expect_success()?;
    Ok(format!("{} copies on the two others, none on this one", 2 * COPIES))
}

/// The sender goes on without it after a while. With fewer retries it would on a busy machine drop others too.
fn lost_host(scene: &Scene) -> Result<String> {
    let digest = scene.digest()?;
    let feed = scene.feed_by_hand()?;
    let receive = &scene.document.receive;
    let hosts = start_all(scene, [receive; HOSTS], &digest)?;
    let mut sender = scene.start(0, &scene.document.send, "")?;
    let fifo = feed.give_half(&mut sender)?;
    hosts[2].kill("udp-receiver")?;
    feed.give_rest(fifo)?;
    let [first, second, lost] = end_all(hosts)?;
    for (host, ended) in [(1, first), (2, second)] {
        ended.expect_success()?;
        scene.check_copies(host)?;
    }
    lost.expect_failure()?;
    scene.check_nothing(3)?;
    sender.wait()?.expect_success().context("the sender")?;
    Ok(format!(
        "{} copies on the two others, none on this one; the sender's status is 0",
        2 * COPIES
    ))
}

/// The script of a host that does not wait long for a sender.
fn impatient(script: &Script) -> Result<Script> {
    script.with("--start-timeout 90", "--start-timeout 3")
}

/// Starts a script on each host.
fn start_all(scene: &Scene, scripts: [&Script; HOSTS], digest: &str) -> Result<[Running; HOSTS]> {
    let [first, second, third] = scripts;
    Ok([
        scene.start(1, first, digest)?,
        scene.start(2, second, digest)?,
        scene.start(3, third, digest)?,
    ])
}

fn end_all<const COUNT: usize>(hosts: [Running; COUNT]) -> Result<[Ended; COUNT]> {
    let ended: Result<Vec<_>> = hosts.into_iter().map(Running::wait).collect();
    ended?.try_into().ok().context("a host is missing")
}

/// How long the copies of a host are, which are beginnings of the source, and all there are.
fn parts(scene: &Scene, host: usize) -> Result<u64> {
    let names = scene.files(host)?;
    ensure!(names.len() == COPIES, "host {host} has {names:?}");
    let mut lengths = Vec::new();
    for name in names {
        let path = scene.path(host, "").join(name);
        let length = fs::metadata(&path)?.len();
        let difference = first_difference(&scene.source(), &path)?;
        ensure!(difference == Some(length), "{path:?} differs at {difference:?}");
        lengths.push(length);
    }
    lengths.dedup();
    let [length] = lengths[..] else { anyhow::bail!("the copies have {lengths:?} bytes") };
    Ok(length)
}
