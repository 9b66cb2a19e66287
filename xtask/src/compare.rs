//! What the programs do, and what others do that can put one file into many places: README.md's table, every
//! cell of which is the outcome of a run.
//!
//! A question (`experiments.rs`) is put to each tool (`tool.rs`) in a fresh directory (`scene.rs`): the tool
//! runs there (`running.rs`), mostly until strace stops it in the middle of the copy (`held.rs`), and what is
//! there then and at the end is the answer (`cell.rs`). The table is `readme.rs`'s. Nothing depends on how
//! fast anything is.

mod cell;
mod experiments;
mod held;
mod readme;
mod running;
mod scene;
mod tool;

use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, anyhow};

use self::cell::Cell;
use self::experiments::Experiment;
use self::scene::Scene;
use self::tool::Tool;
use crate::installed;
use crate::leftovers;
use crate::place::Place;
use crate::{build, processes};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Put the table into README.md
    #[arg(long)]
    write: bool,
}

/// Builds the programs and compares; fails if README.md says something else.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(missing) = installed::missing(&["strace", "ip"]) {
        println!("SKIPPED: compare: {missing}");
        return Ok(ExitCode::SUCCESS);
    }
    let (tools, missing): (Vec<_>, Vec<_>) = Tool::ALL.into_iter().partition(|it| it.is_here());
    let missing: Vec<_> = missing.into_iter().map(Tool::name).collect();
    if let Some(missing) = installed::missing(&missing) {
        println!("SKIPPED: a part of compare: {missing}");
    }
    build::build()?;
    leftovers::adopt_orphans()?;
    let table = table(&tools);
    // What an experiment that failed has left standing.
    processes::end_all()?;
    let table = table?;
    if !missing.is_empty() {
        println!("compare: README.md is not looked at");
        return Ok(ExitCode::SUCCESS);
    }
    if args.write {
        readme::write(&table)?;
    }
    let difference = readme::difference(&table)?;
    if difference.is_empty() {
        println!("compare: README.md says the same");
        return Ok(ExitCode::SUCCESS);
    }
    print!("\n{difference}");
    println!("compare: README.md says something else; --write puts there what was found");
    Ok(ExitCode::FAILURE)
}

/// Does all experiments, in namespaces that end with them, and prints each row when it is known.
fn table(tools: &[Tool]) -> Result<String> {
    let directory = tempfile::Builder::new().prefix("compare-").tempdir();
    let directory = directory.context("cannot make a directory")?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let place = Place::enter(directory.path())?;
            let mut table = readme::head(tools);
            print!("{table}");
            for experiment in experiments::ALL {
                let row = readme::row(experiment.title, &cells(&place, tools, experiment)?);
                print!("{row}");
                table += &row;
            }
            Ok(table)
        });
        worker.join().map_err(|_| anyhow!("the experiments panicked"))?
    })
}

fn cells(place: &Place, tools: &[Tool], experiment: &Experiment) -> Result<Vec<Cell>> {
    let cell = |&tool: &Tool| {
        let answer = Scene::new(place, tool).and_then(|scene| (experiment.answer)(&scene));
        answer.with_context(|| format!("{:?} of {}", experiment.title, tool.name()))
    };
    tools.iter().map(cell).collect()
}
