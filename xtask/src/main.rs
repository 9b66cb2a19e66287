//! What is done with the workspace beside compiling it: `cargo xtask --help`.
#![allow(clippy::print_stdout, reason = "tables and results are what it is run for")]

mod build;
mod e2e;
mod table;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Build and check the programs.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Build the programs for release and put them at the workspace root
    Build,
    /// Remove the programs and all build output, but never a received file
    Clean,
    /// Build the programs, then run both as a user would and check what they do
    E2e(e2e::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    let task = Task::parse();
    std::env::set_current_dir(build::workspace()).context("cannot go to the workspace root")?;
    match task {
        Task::Build => build::build()?,
        Task::Clean => build::clean()?,
        Task::E2e(args) => return e2e::run(&args),
    }
    Ok(ExitCode::SUCCESS)
}
