//! What figures depend on beside the programs. No name is in it, neither of the machine nor of a
//! directory.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::load::Load;
use super::units;

/// A machine, a file system on it, a revision of the programs and a moment.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    date: String,
    revision: String,
    kernel: String,
    processor: String,
    cores: usize,
    memory_bytes: u64,
    file_system: String,
    /// So much may wait to be written to disk before the kernel slows down whoever writes more.
    unthrottled_bytes: u64,
    /// How many processes wanted to run in the minute before: with no other work, far less than 1.
    load_average: f64,
}

impl Host {
    /// This machine, and the file system that a directory is on.
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        let file_system = said(Command::new("df").arg("--output=fstype").arg(directory))?;
        let load_average = fs::read_to_string("/proc/loadavg")?;
        let load_average = load_average.split_whitespace().next().unwrap_or_default();
        let revision = said(Command::new("git").args(["describe", "--always", "--dirty"]));
        Ok(Self {
            date: said(Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M"]))?,
            revision: revision.unwrap_or_else(|_| "unknown".to_owned()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processor: field("/proc/cpuinfo", "model name")
                .unwrap_or_else(|_| "unknown".to_owned()),
            cores: available_parallelism()?.get(),
            memory_bytes: 1024 * number("/proc/meminfo", "MemTotal")?,
            file_system: file_system.lines().last().unwrap_or_default().to_owned(),
            unthrottled_bytes: unthrottled_bytes()?,
            load_average: load_average.parse().context("cannot understand /proc/loadavg")?,
        })
    }

    /// Whether a load is so large that the kernel makes its writers wait for the disk.
    pub(crate) fn throttles(&self, load: Load) -> bool {
        self.file_system != "tmpfs" && load.delivered() > self.unthrottled_bytes
    }

    /// Whether others are using the machine.
    pub(crate) fn is_busy(&self) -> bool {
        self.load_average > 0.5
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, cores, file_system, .. } = self;
        let memory = units::size(self.memory_bytes);
        write!(f, "Linux {kernel}, {cores} cores of {processor}, {memory}, {file_system}")
    }
}

/// What this process has had at most of resident memory.
pub(crate) fn own_peak_bytes() -> Result<u64> {
    Ok(1024 * number("/proc/self/status", "VmHWM")?)
}

/// The middle between the threshold at which write-back starts and the one at which writers are
/// stopped: `dirty_freerun_ceiling` in the kernel.
fn unthrottled_bytes() -> Result<u64> {
    let background = number("/proc/vmstat", "nr_dirty_background_threshold")?;
    let stop = number("/proc/vmstat", "nr_dirty_threshold")?;
    Ok((background + stop) / 2 * rustix::param::page_size() as u64)
}

/// A number of bytes, pages or kilobytes: the first word of a field.
fn number(path: &str, name: &str) -> Result<u64> {
    let field = field(path, name)?;
    let number = field.split_whitespace().next().and_then(|word| word.parse().ok());
    number.with_context(|| format!("cannot understand {name} in {path}"))
}

/// What stands after a name in a file that has one on each line.
fn field(path: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let field = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([':', ' ', '\t']).then(|| rest.trim_start_matches([':', ' ', '\t']))
    });
    Ok(field.with_context(|| format!("{path} has no {name}"))?.to_owned())
}

/// What a command has to say.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
