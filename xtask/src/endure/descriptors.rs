//! How many descriptors the processes of a run have open, while it stands still because its source does.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, Mode, OFlags};

use super::{Trial, ended};
use crate::build::Program;
use crate::processes;

/// Those that a server has whatever the number of its peers, beside what it was started with: source,
/// directory, the link to what cleans up, endpoint, what it waits with, and one to spare.
const SERVER: usize = 7;
/// Those that a peer has: the three standard ones, its link, directory and file, and with sockets its
/// connection and a pipe; and the link to what cleans up.
const PEER: usize = 10;

/// How many a server has for each peer, as README.md says.
fn per_peer(program: Program) -> usize {
    match program {
        Program::Socket => 2,
        Program::SharedMemory => 1,
    }
}

/// More than the server of `sharedmem` or a peer of `socket` waits for before it does anything.
const BYTES: u64 = 700_000;

impl Trial {
    /// Looks at a server and its peers when all of them have stored what there is so far.
    pub(super) fn descriptors(&self) -> Result<String> {
        let bytes = self.source("data", BYTES)?;
        let source = self.place.join("fifo");
        rustix::fs::mkfifoat(CWD, &source, Mode::RUSR | Mode::WUSR)
            .context("cannot make a FIFO")?;
        // Opened for both, it waits for no reader.
        let mut fifo = File::options().read(true).write(true).open(&source)?;
        // All of it fits in: nobody has to be waited for.
        rustix::pipe::fcntl_setpipe_size(&fifo, usize::try_from(BYTES)?)
            .context("cannot make a FIFO longer")?;
        let inherited = self.place.join("inherited");
        // This duplicate, unlike what is opened, goes down to whoever is started.
        let handed_down = rustix::io::dup(File::create_new(&inherited)?.as_fd())?;
        let peers = 1000 / self.part;
        let mut run = self.start(&[&peers.to_string()], &source)?;
        let started_with = inheritable()?;
        drop(handed_down);
        fifo.write_all(&fs::read(&bytes)?)?;
        let peers = usize::try_from(peers)?;
        let pids = loop {
            let pids = processes::children(run.id())?;
            if pids.len() == peers && pids.iter().all(|&pid| self.has_stored(pid)) {
                break pids;
            }
            ensure!(run.try_wait()?.is_none(), "it ended before its source did");
            std::thread::yield_now();
        };
        let server = open_files(run.id())?.len();
        let most = started_with + SERVER + peers * per_peer(self.program);
        ensure!(server <= most, "a server of {peers} peers has {server} descriptors, not {most}");
        let mut greatest = 0;
        for pid in pids {
            let open = open_files(pid)?;
            ensure!(!open.contains(&inherited), "a peer has what its server was started with");
            ensure!(open.len() <= PEER, "a peer has {open:?}");
            greatest = greatest.max(open.len());
        }
        drop(fifo);
        ended(run)?;
        self.check_copies(&bytes, peers)?;
        Ok(format!("{peers} peers, server {server}, a peer {greatest} at most"))
    }

    /// Whether a process has written to a file that it receives: it has all by then that it ever has.
    fn has_stored(&self, pid: u32) -> bool {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter(|entry| {
                let target = fs::read_link(entry.path());
                target.is_ok_and(|target| is_below(&target, &self.received()))
            })
            .any(|entry| {
                let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name()));
                let position = info.ok().and_then(|info| {
                    info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
                });
                position.is_some_and(|position: u64| position > 0)
            })
    }
}

fn is_below(path: &Path, directory: &Path) -> bool {
    path.parent() == Some(directory)
}

/// How many descriptors of this process those have that it starts, the three standard ones included.
fn inheritable() -> Result<usize> {
    const CLOSED_ON_EXEC: u32 = OFlags::CLOEXEC.bits();
    let mut open = 0;
    for entry in fs::read_dir("/proc/self/fdinfo").context("cannot list descriptors")? {
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        open += usize::from(flags.is_some_and(|flags| flags & CLOSED_ON_EXEC == 0));
    }
    Ok(open)
}

/// What a process has open.
fn open_files(pid: u32) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).context("cannot list descriptors")?;
    entries.map(|entry| Ok(fs::read_link(entry?.path())?)).collect()
}
