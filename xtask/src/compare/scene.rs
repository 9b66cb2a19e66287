//! The directory in which a tool runs: a source, a directory for each copy, and what is in them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, PipeWriter};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};

use super::held::Held;
use super::running::{Ended, Running};
use super::tool::{COPIES, Source, Tool, target};
use crate::files;
use crate::place::Place;

/// The name of the source.
pub(crate) const SOURCE: &str = "source";

/// How long the source is, in bytes, and where it has a hole. Nobody reads that much at once.
pub(crate) const SOURCE_BYTES: u64 = 16 << 20;
const HOLE_BEGIN: u64 = 4 << 20;
const HOLE_BYTES: u64 = 8 << 20;

/// A tool and the directory that it runs in. All paths are relative to that.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) tool: Tool,
    directory: PathBuf,
}

impl Scene {
    /// Makes a source that is a day old, with a hole and a mode that no new file has.
    pub(crate) fn new(place: &Place, tool: Tool) -> Result<Self> {
        let scene = Self { tool, directory: place.new_scene()? };
        for number in 0..COPIES {
            fs::create_dir(scene.path(number.to_string()))?;
        }
        files::write_source(&scene.path(SOURCE), SOURCE_BYTES)?;
        let source = OpenOptions::new().write(true).open(scene.path(SOURCE))?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&source, punch, HOLE_BEGIN, HOLE_BYTES)
            .context("cannot make a hole")?;
        source.set_permissions(Permissions::from_mode(0o750))?;
        source.set_modified(SystemTime::now() - Duration::from_secs(86400))?;
        Ok(scene)
    }

    /// Where `path` really is.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// Where a copy really is to be.
    pub(crate) fn target(&self, number: usize) -> PathBuf {
        self.path(target(number))
    }

    /// Whether a copy is there, and all of it.
    pub(crate) fn is_whole(&self, number: usize) -> Result<bool> {
        let (source, copy) = (self.path(SOURCE), self.target(number));
        let length = |path| fs::metadata(path).map(|file| file.len()).ok();
        Ok(length(&copy) == length(&source) && files::first_difference(&source, &copy)?.is_none())
    }

    /// Whether all copies are there, and all of each.
    pub(crate) fn are_whole(&self) -> Result<bool> {
        (0..COPIES).try_fold(true, |whole, number| Ok(whole && self.is_whole(number)?))
    }

    /// Makes a FIFO that somebody has open who never reads it.
    pub(crate) fn make_fifo(&self, path: &Path) -> Result<File> {
        rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).context("cannot make a FIFO")?;
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let both = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path);
        both.context("cannot open a FIFO")
    }

    /// Runs the tool from start to end, with the source as a file.
    pub(crate) fn run(&self, options: &[&str]) -> Result<Ended> {
        self.start(options)?.wait()
    }

    /// Starts the tool, with the source as a file.
    pub(crate) fn start(&self, options: &[&str]) -> Result<Running> {
        let invocations = self.tool.invocations(options, Source::File(SOURCE), "");
        self.start_all(&invocations, || self.standard_input())
    }

    /// Starts the tool with a stream as source.
    pub(crate) fn start_stream(&self, options: &[&str]) -> Result<(Running, PipeWriter)> {
        let invocations = self.tool.invocations(options, Source::Stream, "");
        let (reader, writer) = io::pipe()?;
        Ok((self.start_all(&invocations, || Ok(reader.try_clone()?.into()))?, writer))
    }

    /// Runs the tool to the middle of the copy.
    pub(crate) fn hold(&self, options: &[&str]) -> Result<Held> {
        let invocations = self.tool.invocations(options, Source::File(SOURCE), "");
        Held::new(self, &invocations)
    }

    /// Runs a program from start to end.
    pub(crate) fn run_other(&self, words: &[&str]) -> Result<Ended> {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.start_all(&[words], || Ok(Stdio::null()))?.wait()
    }

    /// Starts programs, all at once.
    pub(crate) fn start_all(
        &self,
        invocations: &[Vec<String>],
        standard_input: impl Fn() -> Result<Stdio>,
    ) -> Result<Running> {
        Running::start(invocations.iter().map(|words| {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).current_dir(&self.directory).stdin(standard_input()?);
            // What cargo puts into the one is not for others; of messages some words are looked for.
            command.env_remove("LD_LIBRARY_PATH").env("LC_ALL", "C");
            Ok(command)
        }))
    }

    /// What the tool reads if its source is a file.
    pub(crate) fn standard_input(&self) -> Result<Stdio> {
        let is_read = self.tool.reads_standard_input();
        Ok(if is_read { File::open(self.path(SOURCE))?.into() } else { Stdio::null() })
    }
}
