//! The least that forking a process for each copy takes: all that these do is store a file.
//!
//! Each of them stores it the way peers do, and nobody talks to it: what a peer takes beside this is
//! the price of everything that the programs promise.
#![allow(unsafe_code, reason = "forks")]

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ipc_core::process::{Exit, Lifeline, fork};
use ipc_core::{Directory, Error, Existing, FileHeader, FileName, ReceivedFile};

/// All processes, as a hidden task.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    count: usize,
    bytes: usize,
    directory: PathBuf,
}

/// Forks all of them, one after the other, and waits until all have ended.
pub(crate) fn store(args: &Args) -> Result<()> {
    let bytes = vec![0x5a; args.bytes];
    let run = |number: usize| {
        let stored =
            |entered: Result<(), Error>| entered.and_then(|()| store_one(args, number, &bytes));
        // SAFETY: The child opens all that it uses.
        unsafe { fork(Lifeline::DiesWithParent, &[], |entered| stored(entered).is_err().into()) }
    };
    let children = (0..args.count).map(run).collect::<Result<Vec<_>, _>>()?;
    for child in children {
        let exit = child.wait().context("cannot wait for a process")?;
        ensure!(exit == Exit::Status(0), "a process {exit}");
    }
    Ok(())
}

fn store_one(args: &Args, number: usize, bytes: &[u8]) -> Result<(), Error> {
    let directory = Directory::open(&args.directory)?;
    let name = FileName::new(number.to_string().as_bytes())?;
    let hidden = FileName::new(format!(".{number}").as_bytes())?;
    let size = Some(bytes.len() as u64);
    let header = FileHeader::new(name.clone(), size, 0o644, (0, 0))?;
    let mut file = ReceivedFile::create(&directory, &header, hidden)?;
    file.write_all(bytes)?;
    file.finish()?.commit(&name, Existing::Replace)
}
