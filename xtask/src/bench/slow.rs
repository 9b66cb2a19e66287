//! A run with one peer that hardly gets on, and how long the others take.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use wait4::Wait4;

use super::place::Stage;
use super::run::Run;
use crate::processes;

/// The slow peer runs for so long ...
const RUNS: Duration = Duration::from_millis(1);
/// ... out of every so long: a few dozen megabytes a second.
const PERIOD: Duration = Duration::from_millis(50);

/// How often the directory is looked at.
const GLANCE: Duration = Duration::from_micros(500);

/// Measures until as many copies have their names as the load has peers; if the program has one peer
/// more, that one is slow, and still at it then.
///
/// With it or without, the time is taken by the same glances at the directory, and they cost the
/// same.
pub(crate) fn measure(mut program: Command, stage: &Stage, slow: bool) -> Result<Run> {
    let start = Instant::now();
    let mut server = program.spawn().with_context(|| format!("cannot start {program:?}"))?;
    let mut victim = None;
    let peers = stage.load.peers;
    let (elapsed, ended) = loop {
        let ended = server.try_wait4().context("cannot wait for the program")?;
        if finished(stage)? >= peers {
            break (start.elapsed(), ended);
        }
        if let Some(ended) = ended {
            bail!("{}", ended.status);
        }
        if slow && victim.is_none() {
            victim = Victim::among(&processes::children(server.id())?, peers + 1)?;
        }
        if let Some(victim) = &mut victim {
            victim.set_running(start.elapsed().as_nanos() % PERIOD.as_nanos() < RUNS.as_nanos())?;
        }
        sleep(GLANCE);
    };
    if let Some(victim) = &mut victim {
        victim.set_running(true)?;
    }
    let ended = ended.map_or_else(|| server.wait4(), Ok).context("cannot wait for the program")?;
    Run::of(elapsed, &[ended])
}

/// How many received files have their final names.
fn finished(stage: &Stage) -> Result<usize> {
    let is_final = |name: &&OsString| !name.as_encoded_bytes().starts_with(b".");
    Ok(stage.names()?.iter().filter(is_final).count())
}

/// The peer that is stopped most of the time.
#[derive(Debug)]
struct Victim {
    process: OwnedFd,
    running: bool,
}

impl Victim {
    /// The youngest of a server's children, once there are so many: only older ones are no peers.
    fn among(children: &[u32], peers: usize) -> Result<Option<Self>> {
        let youngest = children.last().filter(|_| children.len() >= peers);
        let open =
            |&pid| pidfd_open(processes::id(pid)?, PidfdFlags::empty()).context("no such peer");
        Ok(youngest.map(open).transpose()?.map(|process| Self { process, running: true }))
    }

    fn set_running(&mut self, running: bool) -> Result<()> {
        if self.running != running {
            let signal = if running { Signal::CONT } else { Signal::STOP };
            pidfd_send_signal(&self.process, signal).context("cannot signal the slow peer")?;
            self.running = running;
        }
        Ok(())
    }
}
