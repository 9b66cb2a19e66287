//! How each contender is started: with its own defaults, as a user would, and without a shell.

use std::fs::File;
use std::process::Command;

use anyhow::Result;

use super::contender::Contender;
use super::place::Stage;
use super::run::{self, Run};
use super::{limit, slow};
use crate::build::Program;

/// Starts a contender on a stage that is clear, and measures until it is done.
pub(crate) fn measure(contender: Contender, stage: &Stage) -> Result<Run> {
    let peers = stage.load.peers;
    let one = |command| run::measure([command], 1);
    let each = |command: fn(&Stage, usize) -> Result<Command>| {
        (0..peers).map(move |number| command(stage, number))
    };
    match contender {
        Contender::Program(it) => one(program(stage, it, &[], peers)),
        Contender::Lockstep => {
            one(program(stage, Program::SharedMemory, &["--blocks", "1"], peers))
        }
        Contender::Synced(it) => one(program(stage, it, &["--sync"], peers)),
        Contender::Undisturbed(it) => slow::measure(program(stage, it, &[], peers)?, stage, false),
        Contender::BesideSlow(it) => {
            slow::measure(program(stage, it, &[], peers + 1)?, stage, true)
        }
        Contender::Limit => limit::measure(each(limit)),
        Contender::Forks => one(forks(stage)),
        Contender::Cp => run::measure(each(cp), peers),
        Contender::CpByEight => run::measure(each(cp), 8),
        Contender::DdFsync => run::measure(each(dd_fsync), peers),
        Contender::Tee => one(tee(stage)),
        Contender::Pee => one(pee(stage)),
        Contender::Mbuffer => one(mbuffer(stage)),
        Contender::Dcfldd => one(dcfldd(stage)),
    }
}

fn program(stage: &Stage, it: Program, options: &[&str], peers: usize) -> Result<Command> {
    let mut command = stage.command(it.path())?;
    command.args(options).args(["--quiet", "--dir", ".", &peers.to_string()]).arg(&stage.source);
    Ok(command)
}

fn limit(stage: &Stage, number: usize) -> Result<Command> {
    // Cargo may replace the file that this program was started from; the kernel keeps it here.
    let mut command = stage.command("/proc/self/exe")?;
    command.arg("limit").arg(stage.copy_path(number)).arg(stage.load.bytes.to_string());
    Ok(command)
}

fn forks(stage: &Stage) -> Result<Command> {
    let mut command = stage.command("/proc/self/exe")?;
    command.arg("forks").arg(stage.load.peers.to_string()).arg(stage.load.bytes.to_string());
    command.arg(stage.copies());
    Ok(command)
}

fn cp(stage: &Stage, number: usize) -> Result<Command> {
    let mut command = stage.command("cp")?;
    command.arg(&stage.source).arg(number.to_string());
    Ok(command)
}

fn dd_fsync(stage: &Stage, number: usize) -> Result<Command> {
    let mut command = stage.command("dd")?;
    command.args(["bs=1M", "conv=fsync", "status=none"]).arg(format!("of={number}"));
    command.stdin(File::open(&stage.source)?);
    Ok(command)
}

fn tee(stage: &Stage) -> Result<Command> {
    let mut command = stage.command("tee")?;
    let last = stage.load.peers - 1;
    command.args((0..last).map(|number| number.to_string()));
    command.stdin(File::open(&stage.source)?).stdout(File::create(stage.copy_path(last))?);
    Ok(command)
}

/// It starts a shell for each copy itself.
fn pee(stage: &Stage) -> Result<Command> {
    let mut command = stage.command("pee")?;
    command.args((0..stage.load.peers).map(|number| format!("cat > {number}")));
    command.stdin(File::open(&stage.source)?);
    Ok(command)
}

fn mbuffer(stage: &Stage) -> Result<Command> {
    let mut command = stage.command("mbuffer")?;
    command.arg("-q").arg("-i").arg(&stage.source);
    command.args((0..stage.load.peers).flat_map(|number| ["-o".to_owned(), number.to_string()]));
    Ok(command)
}

fn dcfldd(stage: &Stage) -> Result<Command> {
    let mut command = stage.command("dcfldd")?;
    command.arg("status=off");
    command.args((0..stage.load.peers).map(|number| format!("of={number}")));
    command.stdin(File::open(&stage.source)?);
    Ok(command)
}
