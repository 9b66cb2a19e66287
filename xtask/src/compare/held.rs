//! A run that stands still in the middle of the copy: strace stops whoever has read the source for the
//! third time.
//!
//! That is the same place for every tool, and none has to be asked to be slow.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};

use super::running::{Ended, Running};
use super::scene::{SOURCE, Scene};
use super::tool::{COPIES, Tool};
use crate::processes;
use crate::{attach, trace};

/// Every call by which a file is read.
pub(crate) const READS: &str = "read,readv,pread64,preadv,preadv2,sendfile,splice,copy_file_range";

/// At its third such call a process has begun to copy, and none is near the end.
const STOP: &str = "signal=STOP:when=3";

/// A tool that is in the middle of the copy.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) running: Running,
    directory: PathBuf,
}

impl Held {
    /// Runs these on a scene, until each has stopped and those that they started wait for them.
    pub(crate) fn new(scene: &Scene, invocations: &[Vec<String>]) -> Result<Self> {
        let numbers = 0..invocations.len();
        let logs: Vec<_> = numbers.map(|number| scene.path(format!("log-{number}"))).collect();
        let invocations = invocations.iter().zip(&logs).map(|(words, log)| {
            File::create(log)?;
            let injection = format!("{READS}:{STOP}");
            let mut strace = traced(log, &scene.path(SOURCE), &[&injection]);
            strace.push("-I2".to_owned());
            // A peer that was detached reads the source by itself, and is not meant; but there a thread does.
            strace.extend((scene.tool == Tool::Mbuffer).then(|| "-f".to_owned()));
            Ok([&strace[..], words].concat())
        });
        let invocations = invocations.collect::<Result<Vec<_>>>()?;
        let mut running = scene.start_all(&invocations, || scene.standard_input())?;
        for (index, log) in logs.iter().enumerate() {
            while trace::stopped(&fs::read_to_string(log)?).is_empty() {
                let ended = running.started[index].try_wait()?;
                ensure!(ended.is_none(), "it ended before it was in the middle: {ended:?}");
                thread::sleep(Duration::from_millis(1));
            }
        }
        // Who goes on shall not be stopped again.
        for pid in running.started.iter().map(Child::id) {
            attach::dismiss_tracer(pid)?;
            while attach::tracer_of(pid)?.is_some() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        running.await_idle()?;
        Ok(Self { running, directory: scene.path("") })
    }

    /// Lets those go on that stand still because of this.
    pub(crate) fn resume(&self, which: impl Fn(usize) -> bool) -> Result<()> {
        let meant = self.running.started.iter().enumerate().filter(|&(index, _)| which(index));
        meant.map(|(_, child)| child).try_for_each(|child: &Child| {
            kill_process(processes::id(child.id())?, Signal::CONT).context("cannot resume")
        })
    }

    /// Lets all go on, and waits for their end.
    pub(crate) fn finish(self) -> Result<Ended> {
        self.resume(|_| true)?;
        self.running.wait()
    }

    /// Inverts the first byte of each file below the copies' directories that a process has open, as a
    /// faulty disk would.
    pub(crate) fn spoil_copies(&self) -> Result<()> {
        // Several processes may have the same file open.
        let mut spoilt = BTreeSet::new();
        for pid in self.running.processes()? {
            for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
                let descriptor = descriptor?.path();
                let file = fs::metadata(&descriptor)?;
                if file.is_file()
                    && self.is_copy(&fs::read_link(&descriptor)?)
                    && !spoilt.contains(&file.ino())
                    && invert(&descriptor)?
                {
                    spoilt.insert(file.ino());
                }
            }
        }
        ensure!(!spoilt.is_empty(), "nothing has been written yet");
        Ok(())
    }

    fn is_copy(&self, path: &Path) -> bool {
        (0..COPIES).any(|number| path.starts_with(self.directory.join(number.to_string())))
    }
}

/// How strace is started for calls that read a source.
pub(crate) fn traced(log: &Path, source: &Path, injections: &[&str]) -> Vec<String> {
    let options = trace::options(log, Some(READS), injections);
    let words = ["strace", "-D", "-s0", "-P", &source.to_string_lossy()].map(str::to_owned);
    [&words[..], &options].concat()
}

/// Inverts the first byte of a file, if it has one.
fn invert(path: &Path) -> Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| format!("cannot open {path:?}"))?;
    let mut byte = [0];
    let has_one = file.read_at(&mut byte, 0)? == 1;
    if has_one {
        file.write_all_at(&[!byte[0]], 0)?;
    }
    Ok(has_one)
}
