//! The programs `socket` and `sharedmem`: policy, wording and exit statuses.
//!
//! All mechanism is in `ipc-core`, `ipc-socket` and `ipc-shm`, which other programs can use. Here
//! arguments become a [`Job`](ipc_core::Job) (`args.rs`; wrong ones one line, `usage.rs`), the process is
//! set right (`environment.rs`), the run goes on (`run.rs`) and is shown (`progress.rs`), and its end
//! becomes paths or an object, messages, a manifest and an exit status (`output.rs`, `json.rs`,
//! `manifest.rs`).

mod advice;
mod args;
mod environment;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod manifest;
mod message;
mod output;
mod progress;
mod run;
mod size;
mod streams;
mod usage;

use std::process::ExitCode;

use clap::CommandFactory;
use ipc_shm::SharedMemory;
use ipc_socket::SocketTransport;

use crate::args::{SharedMemoryArgs, SocketArgs};
use crate::json::TransportFields;
use crate::usage::parse;

/// What `socket` takes, for what is made of it: a manual page, completions.
#[must_use]
pub fn socket_command() -> clap::Command {
    SocketArgs::command()
}

/// What `sharedmem` takes, as [`socket_command`] has it for `socket`.
#[must_use]
pub fn sharedmem_command() -> clap::Command {
    SharedMemoryArgs::command()
}

/// The program `socket`.
#[must_use]
pub fn socket() -> ExitCode {
    environment::begin();
    let SocketArgs { common } = match parse("socket") {
        Ok(args) => args,
        Err(status) => return status,
    };
    let on_slow = common.on_slow();
    run::main("socket", common, TransportFields::new("socket", on_slow), |_| {
        Ok(SocketTransport::new(ipc_socket::Options { on_slow, ..Default::default() })?)
    })
}

/// The program `sharedmem`.
#[must_use]
pub fn sharedmem() -> ExitCode {
    environment::begin();
    let SharedMemoryArgs { common, block_size, blocks } = match parse("sharedmem") {
        Ok(args) => args,
        Err(status) => return status,
    };
    let on_slow = common.on_slow();
    let fields = TransportFields::new("sharedmem", on_slow).with_ring(block_size, blocks);
    run::main("sharedmem", common, fields, |job| {
        let options = ipc_shm::Options { block_size, blocks, on_slow };
        Ok(SharedMemory::create(&job.source, job.peers, options)?)
    })
}
