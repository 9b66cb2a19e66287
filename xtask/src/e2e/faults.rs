//! Runs that cannot end well: everybody whom the fault is not about is served, and nothing stays.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::scene::{Running, Scene};
use crate::processes;

pub(crate) fn usage_error(scene: &Scene) -> Result<()> {
    scene.write_source("data", 1)?;
    let wrong: [&[&str]; 10] = [
        &[],
        &["3"],
        &["0", "data"],
        &["-1", "data"],
        &["3.5", "data"],
        &["1x", "data"],
        &["", "data"],
        &["3", "data", "data"],
        &["--bogus", "3", "data"],
        &["--name", "same", "3", "data"],
    ];
    for args in wrong {
        let ended = scene.run(args)?;
        let checked = ended
            .expect_status(2)
            .and_then(|()| ended.expect_nothing())
            .and_then(|()| ended.expect_message("", "--help"));
        checked.with_context(|| format!("with the arguments {args:?}"))?;
    }
    Ok(())
}

pub(crate) fn missing_file(scene: &Scene) -> Result<()> {
    let ended = scene.run(["3", "missing"])?;
    ended.expect_status(1)?;
    ended.expect_nothing()?;
    ended.expect_message("cannot open \"missing\": ", "No such file or directory")
}

pub(crate) fn no_clobber(scene: &Scene) -> Result<()> {
    write_source_and_older(scene)?;
    let ended = scene.run(["--quiet", "--no-clobber", "--name", "{peer}", "3", "data"])?;
    ended.expect_status(1)?;
    ended.expect_message("peer 1 (pid ", "File exists")?;
    ended.expect_copies("data", &["received-files/0".into(), "received-files/2".into()])?;
    let kept = fs::read_to_string(scene.path(OLDER))?;
    ended.expect("the existing file", kept.as_str(), OLDER)
}

pub(crate) fn replace(scene: &Scene) -> Result<()> {
    write_source_and_older(scene)?;
    let mut older = File::open(scene.path(OLDER))?;
    let ended = scene.run(["--name", "{peer}", "3", "data"])?;
    ended.expect_status(0)?;
    let paths: Vec<_> = (0..3).map(|peer| format!("received-files/{peer}").into()).collect();
    ended.expect_copies("data", &paths)?;
    let mut kept = String::new();
    older.read_to_string(&mut kept)?;
    ended.expect("what a reader of the replaced file sees", kept.as_str(), OLDER)
}

/// Where peer 1 will want to store, and what stands there.
const OLDER: &str = "received-files/1";

fn write_source_and_older(scene: &Scene) -> Result<()> {
    scene.write_source("data", 100_000)?;
    fs::create_dir(scene.path("received-files"))?;
    fs::write(scene.path(OLDER), OLDER).context("cannot write an older file")
}

pub(crate) fn killed_peer(scene: &Scene) -> Result<()> {
    let (mut running, mut rest) = start_and_pause(scene)?;
    let mut peers = running.peers()?;
    let killed = peers.remove(2);
    processes::kill(killed)?;
    io::copy(&mut rest, running.stdin()?).context("cannot write to standard input")?;
    let ended = running.wait()?;
    ended.expect_status(1)?;
    ended.expect_message(&format!("peer 2 (pid {killed}): "), "SIGKILL")?;
    let path = |pid| PathBuf::from(format!("received-files/pid-{pid}_stdin"));
    ended.expect_copies("data", &peers.into_iter().map(path).collect::<Vec<_>>())
}

pub(crate) fn killed_server(scene: &Scene) -> Result<()> {
    let (mut running, _rest) = start_and_pause(scene)?;
    running.kill_server()?;
    let ended = running.wait()?;
    ended.expect("signal that ended the server", ended.status.signal(), Some(9))?;
    ended.expect("new files", &ended.created, &BTreeSet::new())
}

/// Bytes that a paused run has been given: more than ring, window, pipe and the sockets' buffers
/// hold together, so that every peer has some of them.
const BEFORE_PAUSE: u64 = 16 << 20;

/// Starts a run of four peers that waits, in mid-copy, for the rest of its standard input.
fn start_and_pause(scene: &Scene) -> Result<(Running<'_>, File)> {
    scene.write_source("data", BEFORE_PAUSE + 1_000_000)?;
    let mut running = scene.start(["--quiet", "4", "-"], Stdio::piped())?;
    let mut source = File::open(scene.path("data"))?;
    io::copy(&mut (&mut source).take(BEFORE_PAUSE), running.stdin()?)
        .context("cannot write to standard input")?;
    let peers = running.peers()?;
    ensure!(peers.len() == 4, "peers in mid-copy: expected 4, found {peers:?}");
    Ok((running, source))
}
