//! How fast the programs are, beside everything else that can do the same, and beside the limit.
//!
//! A section (`section.rs`) has loads; with each load (`load.rs`), all its contenders
//! (`contender.rs`, `start.rs`) run in interleaved rounds (`rounds.rs`) on a stage of their own
//! (`place.rs`), and every copy is compared with the source. What a series of runs (`run.rs`) comes
//! to (`series.rs`, `figures.rs`) is gathered (`results.rs`), printed (`tables.rs`), held against the
//! bars (`bars.rs`), written as JSON (`report.rs`) and drawn (`charts.rs`).

mod bars;
mod chart;
mod charts;
mod contender;
mod figures;
pub(crate) mod forks;
mod host;
pub(crate) mod limit;
mod load;
mod place;
mod report;
mod results;
mod rounds;
mod run;
mod section;
mod series;
mod slow;
mod start;
mod tables;
mod units;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::builder::{PathBufValueParser, TypedValueParser};

use self::host::Host;
use self::place::Place;
use self::results::Results;
use self::section::Section;
use crate::build;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: all of it]
    #[arg(value_enum, value_name = "SECTION")]
    sections: Vec<Section>,
    /// Smaller loads and fewer rounds, for a first impression within two minutes
    #[arg(long)]
    quick: bool,
    /// How often each contender runs with an ordinary load [default: 7, if quick 3]
    #[arg(long, value_name = "COUNT")]
    rounds: Option<NonZero<usize>>,
    /// Where to make a directory to copy to [default: target]
    #[arg(long, value_name = "DIR", value_parser = absolute())]
    dir: Option<PathBuf>,
    /// Write all results to this file
    #[arg(long, value_name = "FILE", value_parser = absolute())]
    json: Option<PathBuf>,
    /// Draw throughput.svg and time.svg in this directory
    #[arg(long, value_name = "DIR", value_parser = absolute())]
    charts: Option<PathBuf>,
}

/// Paths are relative to where the user is, and tasks are done elsewhere.
fn absolute() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// Builds the programs and measures; fails if any copy was wrong, however fast it was made.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    build::build()?;
    let place = Place::new(args.dir.as_deref())?;
    let mut results = Results::on(Host::of(place.path())?);
    let rounds = args.rounds.map_or(if args.quick { 3 } else { 7 }, NonZero::get);
    let sections = if args.sections.is_empty() { &Section::ALL } else { &args.sections[..] };
    for &section in sections {
        println!("\n{}", section.question());
        for heat in section.heats(args.quick) {
            results.measure(section, heat, &place, rounds)?;
        }
    }
    finish(&results, args)
}

fn finish(results: &Results, args: &Args) -> Result<ExitCode> {
    let bars = bars::judge(&results.measured);
    if !bars.is_empty() {
        println!();
        tables::print_bars(&bars)?;
    }
    if args.quick {
        println!("Most bars are meant for the larger loads that there are without --quick.");
    }
    if let Some(path) = &args.json {
        report::write(results, &bars, path)?;
    }
    if let Some(directory) = &args.charts {
        charts::draw(&results.measured, directory)?;
    }
    println!("bench: {} loads measured, {} errors", results.measured.len(), results.errors.len());
    ensure!(!results.measured.is_empty(), "nothing was measured");
    Ok(if results.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
