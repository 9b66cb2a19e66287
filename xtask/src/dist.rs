//! What is handed out: a tarball and a Debian package, with manual pages and completions.
//!
//! Everything is laid out once below `target/dist/usr` (`layout.rs`) and packed from there. The tarball is
//! for any Linux, so its programs need no library; the Debian package has those of `cargo xtask build`.

mod check;
mod checks;
mod command;
mod completions;
mod debian;
mod layout;
mod machine;
mod manual;
mod notices;
mod release;
mod tarball;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use self::release::Release;
use crate::build::{self, Program};
use crate::installed;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install both on a copy of this system, use what is in them, and remove them again
    #[arg(long)]
    check: bool,
}

/// Builds the programs and packs them.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    installed::require(&["cargo-deb", "tar", "gzip", "ldd"])?;
    if args.check {
        installed::require(&["dpkg", "chroot"])?;
        check::announce_skipped();
    }
    let release = Release::of_workspace()?;
    build::build()?;
    let programs = build::build_static(&release.target)?;
    layout::lay_out(&release, &programs)?;
    let packed = Packed::pack(&release, &layout::directory())?;
    println!("{}\n{}", packed.tarball.display(), packed.package.display());
    if !args.check {
        return Ok(ExitCode::SUCCESS);
    }
    layout::lay_out(&release, &programs)?;
    check::run(&packed, &release)
}

/// What is handed out.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) tarball: PathBuf,
    pub(crate) package: PathBuf,
}

impl Packed {
    /// Packs what is laid out into `directory`.
    pub(crate) fn pack(release: &Release, directory: &Path) -> Result<Self> {
        let tarball = tarball::pack(release, directory)?;
        Ok(Self { tarball, package: debian::pack(release, directory)? })
    }
}

/// What a program takes.
fn command(program: Program) -> clap::Command {
    match program {
        Program::Socket => ipc_cli::socket_command(),
        Program::SharedMemory => ipc_cli::sharedmem_command(),
    }
}
