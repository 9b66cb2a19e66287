//! The processes of one run: those that were started, and theirs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::leftovers;
use crate::processes;

/// How long a pause is between two looks at processes.
const PAUSE: Duration = Duration::from_millis(1);

/// Once nobody has done anything for so long, nobody will: the longest that a tool waits before it goes on
/// by itself is half a second.
const PATIENCE: Duration = Duration::from_millis(1200);

/// Processes that run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) started: Vec<Child>,
    stdout: File,
    stderr: File,
}

/// What is left of them.
#[derive(Debug)]
pub(crate) struct Ended {
    statuses: Vec<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Whether every process says that all went well.
    pub(crate) fn is_success(&self) -> bool {
        self.statuses.iter().all(ExitStatus::success)
    }
}

impl Running {
    /// Starts them, and lets them say what they have to say in one place.
    pub(crate) fn start(commands: impl IntoIterator<Item = Result<Command>>) -> Result<Self> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut started = Vec::new();
        for command in commands {
            let mut command = command?;
            command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
            let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
            started.push(child);
        }
        Ok(Self { started, stdout, stderr })
    }

    /// Waits until all have ended, and whatever they have started.
    pub(crate) fn wait(mut self) -> Result<Ended> {
        let statuses: Result<_, _> = self.started.iter_mut().map(Child::wait).collect();
        let statuses = statuses.context("cannot wait for a process")?;
        leftovers::await_orphans()?;
        Ok(Ended { statuses, stdout: text(&self.stdout)?, stderr: text(&self.stderr)? })
    }

    /// Kills all of them at once.
    pub(crate) fn kill(self) -> Result<()> {
        for pid in self.processes()? {
            // One that only waits for another may end before its turn comes, and be reaped by that.
            let _ = processes::kill(pid);
        }
        self.wait().map(drop)
    }

    /// What they have said so far.
    pub(crate) fn said(&self) -> Result<String> {
        Ok(text(&self.stdout)? + &text(&self.stderr)?)
    }

    /// Whether something holds before nobody does anything any more.
    pub(crate) fn come_to(&self, holds: impl Fn() -> Result<bool>) -> Result<bool> {
        let mut since = Instant::now();
        while since.elapsed() < PATIENCE {
            if holds()? {
                return Ok(true);
            }
            if !self.are_idle()? {
                since = Instant::now();
            }
            thread::sleep(PAUSE);
        }
        Ok(false)
    }

    /// Waits until nobody does anything.
    pub(crate) fn await_idle(&self) -> Result<()> {
        loop {
            let switches = self.switches()?;
            thread::sleep(PAUSE);
            if self.are_idle()? && self.switches()? == switches {
                return Ok(());
            }
        }
    }

    /// All processes, without those that trace others.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let mut found: Vec<_> = self.started.iter().map(Child::id).collect();
        for parent in 0.. {
            let Some(&pid) = found.get(parent) else { break };
            // It may have ended and be reaped.
            found.extend(processes::children(pid).unwrap_or_default());
        }
        found.retain(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim_end() != "strace"
        });
        Ok(found)
    }

    fn are_idle(&self) -> Result<bool> {
        let mut status = self.task_statuses()?.into_iter();
        Ok(status.all(|status| {
            let state = status.lines().find_map(|line| line.strip_prefix("State:\t"));
            state.is_none_or(|state| !state.starts_with(['R', 'D']))
        }))
    }

    /// How often each of their threads has gone to sleep or been made to wait.
    fn switches(&self) -> Result<Vec<String>> {
        let status = self.task_statuses()?.into_iter();
        let is_it = |line: &&str| line.contains("ctxt_switches");
        Ok(status.map(|status| status.lines().filter(is_it).collect()).collect())
    }

    /// What `/proc` says of each of their threads.
    fn task_statuses(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for pid in self.processes()? {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            found.extend(tasks.flat_map(|task| fs::read_to_string(task.path().join("status"))));
        }
        Ok(found)
    }
}

/// All that is in a file, whose position is others'.
fn text(file: &File) -> Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
