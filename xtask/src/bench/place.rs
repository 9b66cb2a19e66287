//! Where copies are made: a directory of the bench's own, with sources in it and one run's copies.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, ensure};
use tempfile::TempDir;

use super::load::Load;
use super::units::{self, KIB, MIB};
use crate::{build, files};

/// A directory that goes with this value.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    /// A fresh directory in `parent`, or in `target` at the workspace root.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(|| build::workspace().join("target"), Path::to_owned);
        let directory = fs::create_dir_all(&parent)
            .and_then(|()| tempfile::Builder::new().prefix("bench-").tempdir_in(&parent))
            .with_context(|| format!("cannot make a directory in {parent:?}"))?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Why a load cannot be measured here.
    pub(crate) fn lacks(&self, load: Load) -> Result<Option<String>> {
        // What was just deleted is not free before the file system's next commit.
        const MARGIN: u64 = 512 * MIB;
        let room = rustix::fs::statvfs(self.path()).context("cannot ask for free space")?;
        let (free, needed) =
            (room.f_bavail * room.f_frsize, load.delivered() + load.bytes + MARGIN);
        let lacks =
            || format!("{} are needed, {} are free", units::size(needed), units::size(free));
        Ok((free < needed).then(lacks))
    }

    /// Makes a stage for a load. Its source is on disk and in the page cache, and no other one is.
    pub(crate) fn stage(&self, load: Load) -> Result<Stage> {
        let stage = Stage {
            load,
            source: self.path().join("source").join(load.bytes.to_string()),
            place: self.path().to_owned(),
            copies: self.path().join("copies"),
            stdout: tempfile::tempfile_in(self.path())?,
            stderr: tempfile::tempfile_in(self.path())?,
        };
        if !stage.source.exists() {
            self.replace_source(&stage.source, load.bytes)?;
        }
        io::copy(&mut File::open(&stage.source)?, &mut io::sink())?;
        stage.clear()?;
        Ok(stage)
    }

    fn replace_source(&self, path: &Path, bytes: u64) -> Result<()> {
        let directory = self.path().join("source");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory)?;
        files::write_source(path, bytes)?;
        // No run shall share the disk with it.
        File::open(path)?.sync_all().with_context(|| format!("cannot sync {path:?}"))
    }
}

/// Copies up to this size, in bytes, stay until the bench has ended.
const SMALL: u64 = 64 * KIB;

/// One load's source, and the directory of its copies, which is where every contender runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) load: Load,
    pub(crate) source: PathBuf,
    place: PathBuf,
    copies: PathBuf,
    stdout: File,
    stderr: File,
}

impl Stage {
    /// Removes all copies, and with them what is left of them to be written back.
    ///
    /// Small ones are put out of the way instead: while a file has just been removed, ext4 (without a
    /// journal) searches on for the place of a new one, and it was that search which was measured.
    pub(crate) fn clear(&self) -> Result<()> {
        if self.load.bytes <= SMALL && self.copies.exists() {
            let old = tempfile::Builder::new().prefix("old-").tempdir_in(&self.place)?.keep();
            fs::rename(&self.copies, old).context("cannot put copies out of the way")?;
        } else {
            let _ = fs::remove_dir_all(&self.copies);
        }
        fs::create_dir(&self.copies).with_context(|| format!("cannot empty {:?}", self.copies))?;
        for mut output in [&self.stdout, &self.stderr] {
            output.set_len(0).and_then(|()| output.rewind()).context("cannot forget output")?;
        }
        Ok(())
    }

    /// A command whose words go where `explain` and `check_printed` find them.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(&self.copies).stdin(Stdio::null());
        command.stdout(self.stdout.try_clone()?).stderr(self.stderr.try_clone()?);
        Ok(command)
    }

    /// The directory of copies.
    pub(crate) fn copies(&self) -> &Path {
        &self.copies
    }

    /// Where a contender that does not choose names itself is to put a copy.
    pub(crate) fn copy_path(&self, number: usize) -> PathBuf {
        self.copies.join(number.to_string())
    }

    /// An error, and what the run had to say on standard error.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let text = all_of(&self.stderr).unwrap_or_default();
        match String::from_utf8_lossy(&text).trim() {
            "" => error,
            said => error.context(said.to_owned()),
        }
    }

    /// The names in the directory of copies.
    pub(crate) fn names(&self) -> Result<BTreeSet<OsString>> {
        let names = fs::read_dir(&self.copies).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
        });
        names.with_context(|| format!("cannot list {:?}", self.copies))
    }

    /// There are so many files, and each is the source byte by byte.
    pub(crate) fn check_copies(&self, expected: usize) -> Result<()> {
        for path in self.files(expected)? {
            let difference = files::first_difference(&self.source, &path)
                .with_context(|| format!("cannot compare {path:?} with {:?}", self.source))?;
            ensure!(difference.is_none(), "{path:?} differs from the source at {difference:?}");
        }
        Ok(())
    }

    /// There are so many files, all as long as the source.
    pub(crate) fn check_lengths(&self, expected: usize) -> Result<()> {
        for path in self.files(expected)? {
            let length = fs::metadata(&path)?.len();
            ensure!(length == self.load.bytes, "{path:?} has {length} bytes");
        }
        Ok(())
    }

    /// Standard output has the path of each file on a line of its own, and nothing else.
    pub(crate) fn check_printed(&self) -> Result<()> {
        let output = all_of(&self.stdout).context("cannot read standard output")?;
        let lines = output.split_inclusive(|&byte| byte == b'\n');
        let mut printed: Vec<_> = lines.map(|line| name(line.trim_ascii_end())).collect();
        printed.sort();
        let files: Vec<_> = self.names()?.into_iter().collect();
        ensure!(printed == files, "standard output names {printed:?}, the files are {files:?}");
        Ok(())
    }

    fn files(&self, expected: usize) -> Result<Vec<PathBuf>> {
        let names = self.names()?;
        ensure!(names.len() == expected, "expected {expected} files, found {}", names.len());
        Ok(names.into_iter().map(|name| self.copies.join(name)).collect())
    }
}

fn all_of(mut file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last part of a path.
fn name(path: &[u8]) -> OsString {
    Path::new(OsStr::from_bytes(path)).file_name().unwrap_or_default().to_owned()
}
