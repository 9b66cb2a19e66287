//! Every system call of both programs fails once, with each error that it can have, and kills its
//! process once, in a run for each; and what comes of the run is checked.
//!
//! A case (`case.rs`) is run untouched to learn which calls its processes make (`survey.rs`). Each
//! call and each of its errors (`faults.rs`) make a series (`point.rs`): the first such call is hit,
//! then the second, until a run has no more of them (`walk.rs`). A run (`launch.rs`, `../attach.rs`)
//! is under strace (`../trace.rs`), in a session of its own (`../session.rs`) and on a place of its
//! own (`../place.rs`), so that whatever it leaves is known to be its own; `verdict.rs` judges it and
//! `tally.rs` counts.
//!
//! What strace cannot do is a transfer that is real but short: `retval=` only says that bytes have moved.
//! A stream comes through a pipe in pieces, and sockets are full now and then; the rest is the tests'.

mod case;
mod faults;
mod launch;
mod point;
mod survey;
mod tally;
mod verdict;
mod walk;

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use self::case::Case;
use self::point::Series;
use self::tally::Tally;
use self::walk::Extent;
use crate::build::{self, Program};
use crate::place::Place;
use crate::{installed, leftovers, trace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what has all these: a program, a case, a process, a call, an error or `kill`, a class of errors
    /// (fatal, harmless, optional), a call's number
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// A slice of it that takes about two minutes
    #[arg(long)]
    quick: bool,
    /// How many runs go on at the same time
    #[arg(long, value_name = "COUNT", default_value = "2")]
    jobs: NonZero<usize>,
}

/// What the workers share.
struct Work {
    surveys: Mutex<VecDeque<(Program, &'static Case)>>,
    series: Mutex<VecDeque<Series>>,
    /// The programs and cases that have their turn, or had it.
    begun: Mutex<BTreeSet<(&'static str, &'static str)>>,
    tally: Mutex<Tally>,
}

/// Builds the programs and sweeps; fails if anything was found.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    installed::require(&["strace", "setsid"])?;
    build::build()?;
    leftovers::adopt_orphans()?;
    let work = Work {
        surveys: Mutex::new(surveys(args)),
        series: Mutex::default(),
        begun: Mutex::default(),
        tally: Mutex::default(),
    };
    on_places(args.jobs.get(), |place| survey(place, &work, args))?;
    ensure!(!lock(&work.series).is_empty(), "there is nothing that has all these words");
    on_places(args.jobs.get(), |place| sweep(place, &work, args))?;
    let is_clean = lock(&work.tally).print()?;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn surveys(args: &Args) -> VecDeque<(Program, &'static Case)> {
    let programs = Program::ALL.into_iter().filter(|program| {
        let other = Program::ALL.into_iter().find(|other| other != program);
        !other.is_some_and(|other| args.words.iter().any(|word| word == other.name()))
    });
    let named = |case: &Case| args.words.iter().any(|word| word == case.name);
    let any_named = case::ALL.iter().any(named);
    let cases: Vec<_> = case::ALL.iter().filter(|&case| !any_named || named(case)).collect();
    let is_wanted = |case: &&&Case| !args.quick || case.is_quick;
    programs
        .flat_map(|program| cases.iter().filter(is_wanted).map(move |&case| (program, case)))
        .collect()
}

/// Learns which series there are.
fn survey(place: &Place, work: &Work, args: &Args) -> Result<()> {
    while let Some((program, case)) = take(&work.surveys) {
        let mut all = survey::series(place, program, case, args.quick)?;
        let is_number = |word: &String| word.parse::<usize>().is_ok();
        all.retain(|series| args.words.iter().all(|word| is_number(word) || series.has(word)));
        lock(&work.series).extend(all);
    }
    Ok(())
}

/// Walks through series until none is left.
fn sweep(place: &Place, work: &Work, args: &Args) -> Result<()> {
    let only = args.words.iter().find_map(|word| word.parse().ok());
    let extent = Extent { only, is_quick: args.quick };
    while let Some(series) = take(&work.series) {
        let (program, case) = (series.program.name(), series.case.name);
        if lock(&work.begun).insert((program, case)) {
            println!("{program} {case}");
        }
        let (trials, runs) =
            walk::walk(place, &series, extent).with_context(|| format!("in {series}"))?;
        lock(&work.tally).add(&series, &trials, runs);
    }
    Ok(())
}

/// Does `work` on so many threads, each at a place of its own.
fn on_places(count: usize, work: impl Fn(&Place) -> Result<()> + Sync) -> Result<()> {
    let directories = (0..count).map(|_| tempfile::Builder::new().prefix("sweep-").tempdir());
    let directories =
        directories.collect::<Result<Vec<_>, _>>().context("cannot make a directory")?;
    thread::scope(|scope| {
        let work = |path| Place::enter(path).and_then(|place| work(&place));
        let workers: Vec<_> = directories
            .iter()
            .map(|directory| scope.spawn(move || work(directory.path())))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

fn take<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    lock(queue).pop_front()
}

/// What a worker that panicked has left is still good to be counted.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
