//! What a sweep has found, in numbers and in words.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::point::{Series, Target};
use super::verdict::Wrong;
use super::walk::Trial;
use crate::build::Program;
use crate::table::Table;

/// All trials so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: BTreeMap<(&'static str, Target), Row>,
    /// (call, number, what happened there), for each program.
    points: BTreeMap<&'static str, BTreeSet<(String, usize, &'static str)>>,
    findings: Findings,
    known: Findings,
}

/// By what they have in common: a message that a call in several cases leads to is told once.
type Findings = BTreeMap<String, Vec<String>>;

#[derive(Debug, Default)]
struct Row {
    runs: usize,
    points: BTreeSet<(String, usize, &'static str)>,
    outcomes: usize,
    hangs: usize,
    leftovers: usize,
    known: usize,
}

impl Tally {
    /// Adds the trials of a series, which took so many runs.
    pub(crate) fn add(&mut self, series: &Series, trials: &[Trial], runs: usize) {
        let row = self.rows.entry((series.program.name(), series.target)).or_default();
        row.runs += runs;
        for trial in trials {
            let again = format!("cargo xtask sweep {series} {}", trial.number);
            let alike = |kind| {
                let target = series.target.name();
                let (program, call) = (series.program.name(), &series.call);
                format!("{program} {target} {call} {} {kind}", series.action.name())
            };
            let point = (series.call.clone(), trial.number, series.action.name());
            row.points.insert(point.clone());
            self.points.entry(series.program.name()).or_default().insert(point);
            for wrong in &trial.verdict.wrong {
                let (kind, count, what) = match wrong {
                    Wrong::Outcome(what) => ("outcome", &mut row.outcomes, what.clone()),
                    Wrong::Hang => {
                        ("hang", &mut row.hangs, format!("it hangs: {:?}", trial.stderr))
                    }
                    Wrong::Leftover(what) => ("leftover", &mut row.leftovers, what.clone()),
                };
                *count += 1;
                let finding = format!("{again}\n  {what}\n  {}", trial.line);
                self.findings.entry(alike(kind)).or_default().push(finding);
            }
            row.known += trial.verdict.known.len();
            for what in &trial.verdict.known {
                let known = format!("{again}\n  {what}, which can't be helped");
                self.known.entry(alike("known")).or_default().push(known);
            }
        }
    }

    /// Prints everything; says whether nothing was found.
    pub(crate) fn print(&self) -> Result<bool> {
        let titles =
            ["program", "process", "runs", "points", "wrong", "hangs", "leftovers", "known"];
        let mut table = Table::new(&titles.map(|title| (title, title.len().max(9))))?;
        for ((program, target), row) in &self.rows {
            let counts =
                [row.runs, row.points.len(), row.outcomes, row.hangs, row.leftovers, row.known];
            table.cell(program)?;
            table.cell(target.name())?;
            counts.iter().try_for_each(|count| table.cell(&count.to_string()))?;
        }
        self.known.values().for_each(|alike| print_alike(alike));
        self.findings.values().for_each(|alike| print_alike(alike));
        let points = Program::ALL.map(|program| {
            let points = self.points.get(program.name()).map_or(0, BTreeSet::len);
            format!("{points} points of {}", program.name())
        });
        println!(
            "\nsweep: {}, {} findings",
            points.join(", "),
            self.findings.values().map(Vec::len).sum::<usize>()
        );
        Ok(self.findings.is_empty())
    }
}

/// Prints the first of these, and how the others are run.
fn print_alike(findings: &[String]) {
    let mut findings = findings.iter();
    if let Some(first) = findings.next() {
        println!("\n{first}");
    }
    for other in findings {
        println!("  also: {}", other.lines().next().unwrap_or_default());
    }
}
