//! A fresh directory and one program that runs in it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;
use wait4::Wait4;

use super::ended::Ended;
use crate::build::Program;
use crate::leftovers;
use crate::{files, processes};

/// Where a case takes place. All paths are relative to its directory.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) program: Program,
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new(program: Program) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("e2e-").tempdir();
        Ok(Self { program, directory: directory.context("cannot make a directory")? })
    }

    /// Where `path` really is.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Writes a file of so many bytes in which pieces that changed places show.
    pub(crate) fn write_source(&self, path: impl AsRef<Path>, bytes: u64) -> Result<()> {
        files::write_source(&self.path(path), bytes)
    }

    /// Runs the program from start to end, with no standard input.
    pub(crate) fn run<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Ended<'_>> {
        self.start(args, Stdio::null())?.wait()
    }

    /// Starts the program.
    pub(crate) fn start<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        stdin: Stdio,
    ) -> Result<Running<'_>> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let (files, shared_memory) = (self.files()?, leftovers::shared_memory()?);
        let path = self.program.path();
        let mut command = Command::new(&path);
        command.args(args).current_dir(&self.directory).stdin(stdin);
        command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let server = command.spawn().with_context(|| format!("cannot start {path:?}"))?;
        Ok(Running { scene: self, server, stdout, stderr, files, shared_memory })
    }

    /// Everything in the directory.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(self.path(&directory))? {
                let entry = entry?;
                let path = directory.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    directories.push(path.clone());
                }
                found.insert(path);
            }
        }
        Ok(found)
    }
}

/// A program that runs, and what there was before it did.
#[derive(Debug)]
pub(crate) struct Running<'s> {
    scene: &'s Scene,
    server: Child,
    stdout: File,
    stderr: File,
    files: BTreeSet<PathBuf>,
    shared_memory: BTreeSet<OsString>,
}

impl<'s> Running<'s> {
    /// The writing end of its standard input, if it was started with a pipe.
    pub(crate) fn stdin(&mut self) -> Result<&mut ChildStdin> {
        self.server.stdin.as_mut().context("standard input is not a pipe")
    }

    /// The process ids of its peers, by number.
    pub(crate) fn peers(&self) -> Result<Vec<u32>> {
        processes::children(self.server.id())
    }

    /// Kills the server, and nobody else.
    pub(crate) fn kill_server(&mut self) -> Result<()> {
        self.server.kill().context("cannot kill the server")
    }

    /// Closes its standard input, waits for its end, and checks that nothing but files is left.
    pub(crate) fn wait(self) -> Result<Ended<'s>> {
        let Self { scene, server, mut stdout, mut stderr, files, shared_memory } = self;
        let usage = server.wait4().context("cannot wait for the server")?;
        check_processes(usage.status)?;
        leftovers::check_shared_memory(&shared_memory)?;
        let (mut said, mut output) = (Vec::new(), Vec::new());
        for (file, bytes) in [(&mut stdout, &mut output), (&mut stderr, &mut said)] {
            file.rewind()?;
            file.read_to_end(bytes)?;
        }
        Ok(Ended {
            scene,
            status: usage.status,
            stdout: output,
            stderr: String::from_utf8_lossy(&said).into_owned(),
            peak_bytes: usage.rusage.maxrss,
            created: scene.files()?.difference(&files).cloned().collect(),
        })
    }
}

/// A server that ends by itself leaves no process; one that is killed cannot wait for its peers,
/// which end a moment after it.
fn check_processes(status: ExitStatus) -> Result<()> {
    match status.code() {
        Some(_) => leftovers::check_no_process(),
        None => leftovers::await_orphans(),
    }
}
