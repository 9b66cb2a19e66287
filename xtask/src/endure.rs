//! Endurance: many runs, many at once, many peers, and very much in one run. Nothing may grow.
//!
//! Descriptors cannot pile up from run to run, as each run is a process of its own; they are counted where
//! there are most.

mod descriptors;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use wait4::Wait4;

use crate::build::{self, Program};
use crate::leftovers;
use crate::table::Table;
use crate::{files, network};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to make a directory to copy to [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A twentieth of everything
    #[arg(long)]
    quick: bool,
}

/// A program, and how much of everything it is to bear.
struct Trial {
    program: Program,
    place: PathBuf,
    /// What everything is divided by.
    part: u64,
    /// Whether all abstract names of sockets are its runs'.
    is_alone: bool,
}

type Check = fn(&Trial) -> Result<String>;

const CHECKS: [(&str, Check); 5] = [
    ("1,000 runs in a row", Trial::in_a_row),
    ("50 runs at once in one directory", Trial::at_once),
    ("1,000 peers", Trial::many_peers),
    ("descriptors of 1,000 peers", Trial::descriptors),
    ("20 GiB in one run", Trial::very_much),
];

/// More memory than any process of a run may ever have: a ring, buffers, and the program itself.
const LIMIT_BYTES: u64 = 24 << 20;

/// Builds the programs and tries both.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    build::build()?;
    leftovers::adopt_orphans()?;
    let is_alone = network::enter_new()
        .inspect_err(|error| println!("SKIPPED: names of sockets that are left: {error:#}"))
        .is_ok();
    let place = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut table = Table::new(&[("", 32), ("program", 9), ("", 0)])?;
    let mut failures = 0;
    for (name, check) in CHECKS {
        for program in Program::ALL {
            table.cell(name)?;
            table.cell(program.name())?;
            let place = tempfile::Builder::new().prefix("endure-").tempdir_in(&place)?;
            let trial = Trial {
                program,
                place: place.path().to_owned(),
                part: if args.quick { 20 } else { 1 },
                is_alone,
            };
            match trial.leaving_nothing(check) {
                Ok(found) => table.cell(&format!("ok: {found}"))?,
                Err(error) => {
                    failures += 1;
                    table.cell(&format!("FAILED: {error:#}"))?;
                }
            }
            clear_up(place)?;
        }
    }
    println!("endure: {failures} failed");
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn clear_up(place: TempDir) -> Result<()> {
    crate::processes::end_all()?;
    place.close().context("cannot clear up")
}

impl Trial {
    /// Checks, and then that no process and no name is left anywhere.
    fn leaving_nothing(&self, check: Check) -> Result<String> {
        let shared_memory = leftovers::shared_memory()?;
        let found = check(self)?;
        leftovers::check_no_process()?;
        leftovers::check_shared_memory(&shared_memory)?;
        let names = if self.is_alone { network::abstract_names()? } else { Vec::new() };
        ensure!(names.is_empty(), "abstract sockets were left: {names:?}");
        Ok(found)
    }

    fn in_a_row(&self) -> Result<String> {
        let source = self.source("data", 300_000)?;
        let runs = 1000 / self.part;
        let mut peaks = Vec::new();
        for _ in 0..runs {
            peaks.push(ended(self.start(&["--name", "{peer}", "3"], &source)?)?);
        }
        self.check_copies(&source, 3)?;
        let tenth = peaks.len().div_ceil(10);
        let peak = |peaks: &[u64]| peaks.iter().max().copied().unwrap_or(0);
        let (first, last) = (peak(&peaks[..tenth]), peak(&peaks[peaks.len() - tenth..]));
        ensure!(last <= first + first / 4, "peak memory grew from {first} to {last} bytes");
        Ok(format!(
            "{runs} runs, peak memory {} KiB at first, {} KiB at last",
            first >> 10,
            last >> 10
        ))
    }

    fn at_once(&self) -> Result<String> {
        let source = self.source("data", 3_000_000)?;
        let runs = (50 / self.part).max(5);
        let started: Result<Vec<_>> = (0..runs).map(|_| self.start(&["3"], &source)).collect();
        started?.into_iter().try_for_each(|run| ended(run).map(drop))?;
        let copies = usize::try_from(3 * runs)?;
        self.check_copies(&source, copies)?;
        Ok(format!("{copies} copies"))
    }

    fn many_peers(&self) -> Result<String> {
        let source = self.source("data", 4096)?;
        let peers = 1000 / self.part;
        let peak = ended(self.start(&[&peers.to_string()], &source)?)?;
        self.check_copies(&source, usize::try_from(peers)?)?;
        ensure!(peak < LIMIT_BYTES, "peak memory of a process: {peak} bytes");
        Ok(format!("{peers} copies, peak memory of a process {} KiB", peak >> 10))
    }

    fn very_much(&self) -> Result<String> {
        let bytes = (20 << 30) / self.part;
        let source = self.place.join("data");
        File::create_new(&source)?.set_len(bytes)?;
        let peak = ended(self.start(&["--name", "{peer}", "1"], &source)?)?;
        let length = fs::metadata(self.received().join("0"))?.len();
        ensure!(length == bytes, "the copy has {length} bytes of {bytes}");
        ensure!(peak < LIMIT_BYTES, "peak memory of a process: {peak} bytes");
        Ok(format!("{} MiB, peak memory of a process {} KiB", bytes >> 20, peak >> 10))
    }

    fn source(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.place.join(name);
        files::write_source(&path, bytes)?;
        Ok(path)
    }

    fn received(&self) -> PathBuf {
        self.place.join("received-files")
    }

    /// Starts the program with these arguments before the source.
    fn start(&self, args: &[&str], source: &Path) -> Result<Child> {
        let mut command = Command::new(self.program.path());
        command.arg("--quiet").args(args).arg(source).current_dir(&self.place);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().context("cannot start the program")
    }

    /// There are so many copies, and nothing else beside them.
    fn check_copies(&self, source: &Path, copies: usize) -> Result<()> {
        let entries = fs::read_dir(self.received())?.collect::<std::io::Result<Vec<_>>>()?;
        ensure!(entries.len() == copies, "{} files, not {copies}", entries.len());
        for entry in entries {
            let difference = files::first_difference(source, &entry.path())?;
            ensure!(difference.is_none(), "{:?} differs at {difference:?}", entry.path());
        }
        Ok(())
    }
}

/// Waits for a run that must succeed; its peak memory in bytes, by process.
fn ended(run: Child) -> Result<u64> {
    let usage = run.wait4().context("cannot wait for the program")?;
    ensure!(usage.status.success(), "{}", usage.status);
    Ok(usage.rusage.maxrss)
}
