//! The model of the ring under Spin: every order of steps, with every death and every detachment.
//!
//! Spin makes a C program of the model, which visits each state once. It reports a deadlock (a lost
//! wake-up is one), an assertion that does not hold, and, in a second search, a cycle of states, which
//! would be a run that never ends. Two models with a known fault must be found faulty, or nothing of
//! this would mean anything.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::table::Table;
use crate::{build, installed};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the sizes that take seconds
    #[arg(long)]
    quick: bool,
}

/// One size of the model.
#[derive(Debug, Clone, Copy)]
struct Size {
    peers: u32,
    /// Blocks of the ring, blocks that are filled at once, and blocks of the source.
    blocks: [u32; 3],
    deaths: u32,
    detachments: u32,
}

const fn size(peers: u32, blocks: [u32; 3], deaths: u32, detachments: u32) -> Size {
    Size { peers, blocks, deaths, detachments }
}

/// What takes seconds.
const SMALL: [Size; 6] = [
    size(1, [1, 1, 3], 1, 1),
    size(1, [2, 1, 3], 1, 1),
    size(1, [3, 2, 5], 1, 1),
    size(2, [1, 1, 2], 0, 1),
    size(2, [2, 1, 3], 0, 0),
    size(2, [2, 2, 4], 0, 1),
];

/// What takes minutes, and some gigabytes of memory.
const LARGE: [Size; 4] = [
    size(2, [1, 1, 2], 1, 1),
    size(2, [2, 2, 2], 1, 1),
    size(2, [2, 1, 3], 1, 0),
    size(3, [1, 1, 2], 0, 0),
];

/// Faults that were in the ring once, as the model calls them.
const FAULTS: [(&str, Size); 2] =
    [("BELIEVES_ANY_END", size(2, [1, 1, 2], 0, 1)), ("LOOKS_ONCE", size(2, [2, 1, 3], 0, 0))];

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Deadlocks and assertions.
    Safety,
    /// Cycles.
    Termination,
}

/// What came of one search.
#[derive(Debug)]
struct Found {
    errors: u64,
    states: u64,
}

const COLUMNS: [(&str, usize); 8] = [
    ("peers", 5),
    ("ring", 4),
    ("batch", 5),
    ("source", 6),
    ("deaths", 6),
    ("detached", 8),
    ("states", 10),
    ("", 0),
];

/// Searches all sizes, and says how many states there were.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    installed::require(&["spin", "cc"])?;
    let sizes = SMALL.iter().map(|&size| (size, true));
    let sizes = sizes.chain(LARGE.iter().map(|&size| (size, false)).filter(|_| !args.quick));
    let mut table = Table::new(&COLUMNS)?;
    let (mut states, mut errors) = (0, 0);
    for (size, is_small) in sizes {
        size.numbers().iter().try_for_each(|number| table.cell(&number.to_string()))?;
        let found = search(size, None, Search::Safety)?;
        states += found.states;
        errors += found.errors;
        table.cell(&found.states.to_string())?;
        // It takes twice the states, and all it could find in a larger size it finds in a small one.
        let endless = if is_small { search(size, None, Search::Termination)?.errors } else { 0 };
        errors += endless;
        table.cell(match (found.errors, endless) {
            (0, 0) if is_small => "no error, every run ends",
            (0, 0) => "no error",
            (0, _) => "ENDLESS RUN",
            _ => "ERROR",
        })?;
    }
    for (fault, size) in FAULTS {
        let is_found = search(size, Some(fault), Search::Safety)?.errors > 0;
        errors += u64::from(!is_found);
        println!("with the fault {fault}: {}", if is_found { "found" } else { "NOT FOUND" });
    }
    println!("model: {states} states, {errors} errors");
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Searches all states of one size, or until the first error.
fn search(size: Size, fault: Option<&str>, search: Search) -> Result<Found> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let directory = directory.path();
    // It writes what it found beside the model.
    let model = directory.join("ring.pml");
    std::fs::copy(build::workspace().join("models/ring.pml"), &model)
        .context("cannot copy models/ring.pml")?;
    let sizes = size.defines();
    let faults = fault.map(|fault| format!("-D{fault}"));
    output(directory, "spin", sizes.chain(faults).chain(["-a".into(), "ring.pml".into()]))?;
    let kind = match search {
        Search::Safety => "-DSAFETY",
        Search::Termination => "-DNP",
    };
    output(directory, "cc", ["-O2", "-w", "-DCOLLAPSE", kind, "-o", "pan", "pan.c"])?;
    let cycles = (search == Search::Termination).then_some("-l");
    let pan = directory.join("pan");
    let text = output(directory, &pan, ["-m1000000"].into_iter().chain(cycles))?;
    ensure!(!text.contains("max search depth too small"), "the model is too deep:\n{text}");
    let errors = number(&text, |line| line.split_once("errors: ").map(|(_, number)| number));
    let states = number(&text, |line| line.split_once(" states, stored").map(|(number, _)| number));
    let (Some(errors), Some(states)) = (errors, states) else { bail!("spin says:\n{text}") };
    Ok(Found { errors, states })
}

/// Runs a command in `directory`; what it printed.
fn output<A: AsRef<OsStr>>(
    directory: &Path,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<String> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    let output = command.args(args).current_dir(directory).output();
    let output = output.with_context(|| format!("cannot run {program:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{program:?}: {}\n{text}", output.status);
    Ok(text)
}

/// The number in the first line that has one in this place.
fn number(text: &str, place: impl Fn(&str) -> Option<&str>) -> Option<u64> {
    text.lines().find_map(place).and_then(|number| number.trim().parse().ok())
}

impl Size {
    fn numbers(self) -> [u32; 6] {
        let [ring, batch, source] = self.blocks;
        [self.peers, ring, batch, source, self.deaths, self.detachments]
    }

    /// As Spin's preprocessor takes them.
    fn defines(self) -> impl Iterator<Item = String> {
        let names = ["PEERS", "BLOCKS", "BATCH", "LAST", "DEATHS", "DETACHMENTS"];
        names.into_iter().zip(self.numbers()).map(|(name, number)| format!("-D{name}={number}"))
    }
}
