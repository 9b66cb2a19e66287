//! The limit probe: the least that storing so many bytes in so many files takes, whatever they are.
//!
//! Each of its writers has a buffer that never leaves the processor's cache, a file whose space is
//! reserved, and nothing to read or to wait for. They start at a signal, once all are ready, because
//! a contender forks its peers and need not start a program for each. Their CPU time has the start
//! in it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate};

use super::run::{self, Run};

/// What file systems take at once without loss, and processor caches hold.
const BUFFER: usize = 256 << 10;

/// One writer, as a hidden task.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    file: PathBuf,
    bytes: u64,
}

/// Starts all writers, opens the gate, and measures.
pub(crate) fn measure(writers: impl Iterator<Item = Result<Command>>) -> Result<Run> {
    let (gate, release) = io::pipe()?;
    let (mut ready, tell) = io::pipe()?;
    let start = |writer: Result<Command>| {
        let mut writer = writer?;
        writer.stdin(gate.try_clone()?).stdout(tell.try_clone()?);
        writer.spawn().context("cannot start a writer")
    };
    let writers = writers.map(start).collect::<Result<Vec<_>>>()?;
    drop((gate, tell));
    ready.read_exact(&mut vec![0; writers.len()]).context("a writer is not ready")?;
    let start = Instant::now();
    drop(release);
    let ended = run::wait(writers)?;
    Run::of(start.elapsed(), &ended)
}

/// Writes one file, once standard input has ended.
pub(crate) fn write(args: &Args) -> Result<()> {
    let buffer = vec![0x5a; BUFFER];
    io::stdout().write_all(b".").and_then(|()| io::stdout().flush())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let mut file = File::create_new(&args.file)?;
    // Where a file system cannot, its limit is what it does without.
    let _ = fallocate(&file, FallocateFlags::empty(), 0, args.bytes);
    let mut left = args.bytes;
    while left > 0 {
        let length = BUFFER.min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}
