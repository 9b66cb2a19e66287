//! What is handed out: a tarball and a Debian package, with manual pages and completions.
//!
//! Everything is laid out once below `target/dist/usr` (`layout.rs`) and packed from there. The tarball is
//! for any Linux, so its programs need no library; the Debian package has those of `cargo xtask build`.

mod command;
mod completions;
mod debian;
mod layout;
mod manual;
mod release;
mod tarball;

use anyhow::Result;

use self::release::Release;
use crate::build::{self, Program};

/// Builds the programs and packs them.
pub(crate) fn run() -> Result<()> {
    let release = Release::of_workspace()?;
    build::build()?;
    let programs = build::build_static(&release.target)?;
    layout::lay_out(&release, &programs)?;
    let tarball = tarball::pack(&release, &layout::directory())?;
    println!("{}", tarball.display());
    let package = debian::pack(&release, &layout::directory())?;
    println!("{}", package.display());
    Ok(())
}

/// What a program takes.
fn command(program: Program) -> clap::Command {
    match program {
        Program::Socket => ipc_cli::socket_command(),
        Program::SharedMemory => ipc_cli::sharedmem_command(),
    }
}
