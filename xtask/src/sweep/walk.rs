//! One series: its runs, until one has no call of that number any more.

use anyhow::Result;

use super::launch::{Aim, launch};
use super::point::Series;
use super::trace;
use super::verdict::{self, Verdict};
use crate::place::Place;

/// Which numbers of a series are tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// This one only.
    pub(crate) only: Option<usize>,
    /// The first ones, and then ever fewer.
    pub(crate) is_quick: bool,
}

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Which call of the process was hit.
    pub(crate) number: usize,
    pub(crate) verdict: Verdict,
    /// What the program and strace said, for a person who looks into it.
    pub(crate) stderr: String,
    pub(crate) line: String,
}

/// Hits the calls of a series one after the other; gives the trials, and how many runs it took.
pub(crate) fn walk(place: &Place, series: &Series, extent: Extent) -> Result<(Vec<Trial>, usize)> {
    let (mut trials, mut runs) = (Vec::new(), 0);
    let first = extent.only.unwrap_or(series.skipped + 1);
    let mut number = first;
    loop {
        let injection = Some(series.injection(number));
        let Series { program, case, target, .. } = *series;
        let call = Some(series.call.as_str());
        let ended = launch(place, &Aim { program, case, target, call, injection })?;
        runs += 1;
        let hits: Vec<_> = trace::calls(&ended.log)
            .into_iter()
            .filter_map(|(_, calls)| {
                let mut calls = calls.into_iter().filter(|call| call.name == series.call);
                calls.nth(number - 1).map(|call| call.line)
            })
            .collect();
        let verdict = verdict::judge(place, series, &hits, &ended)?;
        // A run that hangs, or fails with nothing done to it, is worth telling in any case.
        let is_meant = !hits.is_empty() && hits.iter().all(|line| line.contains(series.part));
        if is_meant || (hits.is_empty() && !verdict.wrong.is_empty()) {
            let line = hits.join("; ");
            trials.push(Trial { number, verdict, stderr: ended.stderr, line });
        }
        if hits.is_empty() || extent.only.is_some() {
            return Ok((trials, runs));
        }
        number += if extent.is_quick { number - first + 1 } else { 1 };
    }
}
