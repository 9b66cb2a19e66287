//! Sources that are not a plain file with a plain name.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{CWD, Mode, OFlags};

use super::scene::Scene;

/// More than ring, window and pipe hold together.
const STREAM_BYTES: u64 = (16 << 20) + 1;

pub(crate) fn standard_input(scene: &Scene) -> Result<()> {
    scene.write_source("data", STREAM_BYTES)?;
    let mut running = scene.start(["3", "-"], Stdio::piped())?;
    io::copy(&mut File::open(scene.path("data"))?, running.stdin()?)
        .context("cannot write to standard input")?;
    let ended = running.wait()?;
    ended.expect_status(0)?;
    ended.expect_copies_by_pid("data", "stdin", 3)
}

pub(crate) fn fifo(scene: &Scene) -> Result<()> {
    scene.write_source("data", STREAM_BYTES)?;
    let fifo = scene.path("fifo");
    rustix::fs::mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).context("cannot make a FIFO")?;
    let data = scene.path("data");
    let ended = thread::scope(|scope| {
        let writer = scope.spawn(|| feed(&data, &fifo));
        let ended = scene.run(["3", "fifo"]);
        // Had the program not opened the FIFO, the writer would still wait for a reader.
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&fifo);
        drop(reader.context("cannot release the writer")?);
        let fed = writer.join().map_err(|_| anyhow!("the writer panicked"))?;
        ended.and_then(|ended| fed.map(|()| ended))
    })?;
    ended.expect_status(0)?;
    ended.expect_copies_by_pid("data", "fifo", 3)
}

fn feed(data: &Path, fifo: &Path) -> Result<()> {
    let mut fifo = OpenOptions::new().write(true).open(fifo)?;
    io::copy(&mut File::open(data)?, &mut fifo).context("cannot write to the FIFO")?;
    Ok(())
}

pub(crate) fn proc_version(scene: &Scene) -> Result<()> {
    let ended = scene.run(["3", "/proc/version"])?;
    ended.expect_status(0)?;
    ended.expect_copies_by_pid("/proc/version", "version", 3)
}

/// The source's name is kept byte by byte.
pub(crate) fn name(scene: &Scene, name: &[u8]) -> Result<()> {
    let name = OsStr::from_bytes(name);
    scene.write_source(name, 1000)?;
    let ended = scene.run([OsStr::new("2"), name])?;
    ended.expect_status(0)?;
    ended.expect_copies_by_pid(name, name, 2)
}
