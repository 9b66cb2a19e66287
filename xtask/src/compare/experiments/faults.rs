//! What becomes of the others if one copy cannot be made.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Signal, kill_process};

use crate::compare::cell::Cell;
use crate::compare::running::Ended;
use crate::compare::scene::{SOURCE, SOURCE_BYTES, Scene};
use crate::compare::tool::{COPIES, Tool, Wish, target};
use crate::processes;

/// The copy that cannot be made, neither the first nor the last.
const VICTIM: usize = 1;

/// A disk that has no room from the beginning.
pub(crate) fn spares_others(scene: &Scene) -> Result<Cell> {
    let _disk = Disk::mount(scene.path(VICTIM.to_string()), c"size=1m")?;
    let ended = scene.run(&[])?;
    ensure!(!scene.is_whole(VICTIM)?, "the disk has room");
    let is_begun = (0..COPIES).any(|number| scene.target(number).exists());
    Ok(if is_begun || ended.is_success() {
        Cell::of(are_others_whole(scene)?, None)
    } else {
        Cell::Partly("no, refuses at once")
    })
}

pub(crate) fn spares_others_meanwhile(scene: &Scene) -> Result<Cell> {
    let (_, are_whole) = run_out_of_space(scene)?;
    Ok(Cell::of(are_whole, None))
}

pub(crate) fn tells_which(scene: &Scene) -> Result<Cell> {
    let (ended, _) = run_out_of_space(scene)?;
    let number = format!("peer {VICTIM}");
    let is_named = ended.stderr.contains(&target(VICTIM)) || ended.stderr.contains(&number);
    Ok(match (ended.is_success(), is_named) {
        (true, _) => Cell::No,
        (false, true) => Cell::Yes,
        (false, false) => Cell::Partly("status only"),
    })
}

/// Fills one copy's disk in the middle of the run; says whether the others are whole at its end.
///
/// The source is a stream for all that take one: of a file it may be known, and is to the programs, how much
/// room it needs, which is reserved then.
fn run_out_of_space(scene: &Scene) -> Result<(Ended, bool)> {
    let disk = Disk::mount(scene.path(VICTIM.to_string()), c"size=24m")?;
    let ended = if scene.tool.is_for_one() {
        let held = scene.hold(&[])?;
        disk.fill()?;
        held.finish()?
    } else {
        let (running, mut writer) = scene.start_stream(&[])?;
        let mut source = File::open(scene.path(SOURCE))?;
        io::copy(&mut (&mut source).take(SOURCE_BYTES / 2), &mut writer)?;
        running.await_idle()?;
        disk.fill()?;
        // Who gives up reads no further.
        let _ = io::copy(&mut source, &mut writer);
        drop(writer);
        running.wait()?
    };
    ensure!(!scene.is_whole(VICTIM)?, "the disk did not get full");
    Ok((ended, are_others_whole(scene)?))
}

fn are_others_whole(scene: &Scene) -> Result<bool> {
    let mut others = (0..COPIES).filter(|&number| number != VICTIM);
    others.try_fold(true, |whole, number| Ok(whole && scene.is_whole(number)?))
}

/// The process that stores one copy is stopped; where one process stores all, that copy's file is a FIFO
/// that nobody reads.
pub(crate) fn waits_for_nobody(scene: &Scene) -> Result<Cell> {
    let whole = || are_others_whole(scene);
    let is_one_process = matches!(scene.tool, Tool::Tee | Tool::Pee | Tool::Mbuffer | Tool::Dcfldd);
    let (running, does) = if is_one_process {
        let _fifo = scene.make_fifo(&scene.target(VICTIM))?;
        let options = scene.tool.option(Wish::Replace);
        let running = scene.start(options.as_slice())?;
        let does = running.come_to(whole)?;
        (running, does)
    } else {
        let held = scene.hold(&[])?;
        if let Tool::Program(_) = scene.tool {
            let peers = processes::children(held.running.started[0].id())?;
            let victim = *peers.get(VICTIM).context("a peer is missing")?;
            kill_process(processes::id(victim)?, Signal::STOP).context("cannot stop a peer")?;
            held.resume(|_| true)?;
        } else {
            held.resume(|number| number != VICTIM)?;
        }
        let does = held.running.come_to(whole)?;
        (held.running, does)
    };
    running.kill()?;
    Ok(Cell::of(does, None))
}

/// A small disk, until this is dropped.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, size: &CStr) -> Result<Self> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &path, "tmpfs", flags, Some(size)).context("cannot mount a disk")?;
        Ok(Self(path))
    }

    fn fill(&self) -> Result<()> {
        let filler = |path: &Path| io::copy(&mut io::repeat(0), &mut File::create(path)?);
        match filler(&self.0.join("filler")) {
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
            result => result.map(drop).context("cannot fill a disk"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The next scene cannot be made then, and says so.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
