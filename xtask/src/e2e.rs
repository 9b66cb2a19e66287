//! Both programs run as a user would run them, and all that can be seen from outside is checked.
//!
//! The list of cases is in `cases.rs`; a case runs its program in a fresh directory (`scene.rs`) and
//! looks at what the run came to (`ended.rs`) and what it left behind (`../leftovers.rs`).

mod cases;
mod ended;
mod faults;
mod memory;
mod scene;
mod sources;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use self::cases::Case;
use self::scene::Scene;
use crate::build::{self, Program};
use crate::leftovers;
use crate::processes;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run this case only
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
}

/// Builds the programs and checks every case on both.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cases = select(args.case.as_deref())?;
    build::build()?;
    leftovers::adopt_orphans()?;

    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let [first, second] = Program::ALL.map(Program::name);
    let mut table = Table::new(&[("case", width), (first, first.len()), (second, second.len())])?;
    let (mut passed, mut failures) = (0, Vec::new());
    for case in &cases {
        table.cell(&case.name)?;
        for program in Program::ALL {
            match check(case, program) {
                None => table.cell("-")?,
                Some(Ok(())) => {
                    passed += 1;
                    table.cell("ok")?;
                }
                Some(Err(error)) => {
                    table.cell("FAILED")?;
                    failures.push((case, program, error));
                }
            }
        }
    }
    for (case, program, error) in &failures {
        println!("\n{}, {}: {error:#}", case.name, program.name());
        println!("  to run it again: cargo xtask e2e --case {}", case.name);
    }
    println!("e2e: {passed} passed, {} failed", failures.len());
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn select(name: Option<&str>) -> Result<Vec<Case>> {
    let mut cases = cases::all();
    let Some(name) = name else { return Ok(cases) };
    let all: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    cases.retain(|case| case.name == name);
    ensure!(!cases.is_empty(), "there is no case {name:?}, only {}", all.join(" "));
    Ok(cases)
}

/// Runs a case on a program, if it is one for it.
fn check(case: &Case, program: Program) -> Option<Result<()>> {
    if !case.programs.contains(&program) {
        return None;
    }
    let result = Scene::new(program).and_then(|scene| (case.check)(&scene));
    // Whatever a failed case left running must not be held against the next one.
    Some(result.and(processes::end_all().context("cannot clear up")))
}
