//! One file to many machines: a multicast engine brings it to each host, our programs to the peers there.
//!
//! The hosts are network namespaces (`lan.rs`), the commands are those of docs/many-machines.md
//! (`document.rs`), and the cases (`cases.rs`) are also those in which a machine fails.

mod cases;
mod document;
mod lan;
mod scene;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use self::cases::Case;
use self::document::Document;
use self::lan::Lan;
use self::scene::Scene;
use crate::installed;
use crate::leftovers;
use crate::table::Table;
use crate::{build, processes};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run this case only
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
}

/// What the document's commands and the check itself need.
const TOOLS: [&str; 5] = ["ip", "udp-sender", "udp-receiver", "b3sum", "bash"];

/// Builds the programs and checks every case, where there can be such hosts.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cases = select(args.case.as_deref())?;
    let document = Document::read()?;
    if let Err(error) = installed::require(&TOOLS).and_then(|()| Lan::new(1)) {
        println!("SKIPPED: cargo xtask machines: {error:#}");
        return Ok(ExitCode::SUCCESS);
    }
    build::build()?;
    leftovers::adopt_orphans()?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let mut table = Table::new(&[("case", width), ("", 0)])?;
    let mut failures = 0;
    for case in &cases {
        table.cell(case.name)?;
        match check(case, &document) {
            Ok(found) => table.cell(&format!("ok: {found}"))?,
            Err(error) => {
                failures += 1;
                table.cell(&format!("FAILED: {error:#}"))?;
            }
        }
    }
    println!("machines: {} passed, {failures} failed", cases.len() - failures);
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn select(name: Option<&str>) -> Result<Vec<Case>> {
    let names = cases::ALL.map(|case| case.name);
    let mut cases = Vec::from(cases::ALL);
    cases.retain(|case| name.is_none_or(|name| case.name == name));
    ensure!(!cases.is_empty(), "there is no case {name:?}, only {names:?}");
    Ok(cases)
}

/// Checks a case among new hosts, and that nothing is left of it.
fn check(case: &Case, document: &Document) -> Result<String> {
    let shared_memory = leftovers::shared_memory()?;
    let scene = Scene::new(document)?;
    let result = (case.check)(&scene).and_then(|found| {
        leftovers::check_no_process()?;
        leftovers::check_shared_memory(&shared_memory)?;
        Ok(found)
    });
    // Whatever a failed case left running must not be held against the next one.
    processes::end_all().context("cannot clear up")?;
    result
}
