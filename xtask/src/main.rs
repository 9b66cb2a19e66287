//! What is done with the workspace beside compiling it: `cargo xtask --help`.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tables, results and errors are what it is run for"
)]

mod attach;
mod bench;
mod build;
mod compare;
mod dist;
mod e2e;
mod endure;
mod files;
mod installed;
mod leftovers;
mod machines;
mod model;
mod mounts;
mod network;
mod picture;
mod place;
mod processes;
mod session;
mod sweep;
mod table;
mod trace;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Build, check and measure the programs.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Build the programs for release and put them at the workspace root
    Build,
    /// Remove the programs and all build output, but never a received file
    Clean,
    /// Build the programs, then run both as a user would and check what they do
    E2e(e2e::Args),
    /// Build the programs, then make each of their system calls fail, one in each run, and kill them there
    Sweep(sweep::Args),
    /// Build the programs, then measure both beside other means to copy one file to many
    Bench(bench::Args),
    /// Build the programs, then find out what they and others do, and hold README.md's table against it
    Compare(compare::Args),
    /// Build the programs, then run them a thousand times, fifty at once, with a thousand peers, with 20 GiB
    Endure(endure::Args),
    /// Build the programs, then copy to three hosts at once, each a network namespace, as docs/many-machines.md says
    Machines(machines::Args),
    /// Build the programs, then make what is handed out: a tarball and a Debian package, in target/dist
    Dist(dist::Args),
    /// Search all states of the model of the ring, with Spin
    Model(model::Args),
    /// Draw what a terminal shows while a copy goes on, for README.md
    Picture(picture::Args),
    /// Write a file as fast as can be: one writer of the bench's limit probe
    #[command(hide = true)]
    Limit(bench::limit::Args),
    /// Fork processes that store a file each and do nothing else: the bench's limit for many of them
    #[command(hide = true)]
    Forks(bench::forks::Args),
}

fn main() -> ExitCode {
    // On one line: where in this program it came from helps nobody.
    run(Task::parse()).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    std::env::set_current_dir(build::workspace()).context("cannot go to the workspace root")?;
    match task {
        Task::Build => build::build()?,
        Task::Clean => build::clean()?,
        Task::E2e(args) => return e2e::run(&args),
        Task::Sweep(args) => return sweep::run(&args),
        Task::Bench(args) => return bench::run(&args),
        Task::Compare(args) => return compare::run(&args),
        Task::Endure(args) => return endure::run(&args),
        Task::Machines(args) => return machines::run(&args),
        Task::Dist(args) => return dist::run(&args),
        Task::Model(args) => return model::run(&args),
        Task::Picture(args) => picture::run(&args)?,
        Task::Limit(args) => bench::limit::write(&args)?,
        Task::Forks(args) => bench::forks::store(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}
