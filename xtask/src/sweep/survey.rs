//! Which calls each process of a run makes, found by runs that nothing happens to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::case::Case;
use super::faults;
use super::launch::{Aim, Ended, launch};
use super::point::{Action, Series, Target};
use super::verdict;
use crate::build::Program;
use crate::place::Place;
use crate::trace::{self, Call};

/// Runs that are looked at: which calls there are is a matter of chance where processes wait for each
/// other.
const RUNS: usize = 3;

/// The program's first own call: what comes before is the C library's and the language's, which end a
/// process in ways of their own.
const FIRST: &str = "rt_sigaction(SIGCHLD, ";

/// All series of a case.
///
/// In a quick sweep an optional call is refused with one error only.
pub(crate) fn series(
    place: &Place,
    program: Program,
    case: &'static Case,
    is_quick: bool,
) -> Result<Vec<Series>> {
    let refusals = if is_quick { &faults::REFUSALS[..1] } else { faults::REFUSALS };
    let mut series = Vec::new();
    for &target in case.targets {
        if !target.is_in(program, case) {
            continue;
        }
        let (mut calls, mut skipped) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::new());
        for _ in 0..RUNS {
            let aim = Aim { program, case, target, call: None, injection: None };
            let ended = launch(place, &aim)?;
            let unharmed = verdict::check_unharmed(place, program, case, &ended);
            unharmed.with_context(|| format!("{} {}", program.name(), case.name))?;
            for call in survey(target, &ended, &mut skipped)? {
                calls.entry(call.name).or_default().insert(call.line);
            }
        }
        for (call, lines) in &calls {
            let skipped = skipped.get(call).copied().unwrap_or(0);
            for (part, action) in actions(call, lines, refusals) {
                let call = call.clone();
                series.push(Series { program, case, target, call, part, action, skipped });
            }
        }
    }
    Ok(series)
}

/// The calls that can be hit, and how many of each come too early to be.
fn survey(
    target: Target,
    ended: &Ended,
    skipped: &mut BTreeMap<String, usize>,
) -> Result<Vec<Call>> {
    let mut processes = trace::calls(&ended.log).into_iter().map(|(_, calls)| calls);
    if !matches!(target, Target::Server | Target::Together) {
        return Ok(processes.flatten().collect());
    }
    let mut own = processes.next().context("strace's log is empty")?;
    let first = own.iter().position(|call| call.line.starts_with(FIRST));
    let first = first.context("the program never sets a signal")?;
    skipped.clear();
    for call in own.drain(..first) {
        *skipped.entry(call.name).or_default() += 1;
    }
    Ok(own.into_iter().chain(processes.flatten()).collect())
}

/// What can happen to a call that is printed like these.
fn actions(
    call: &str,
    lines: &BTreeSet<String>,
    refusals: &'static [&'static str],
) -> Vec<(&'static str, Action)> {
    let has = |part| lines.iter().any(|line| line.contains(part));
    let mut actions = vec![("", Action::Kill)];
    for optional in faults::OPTIONAL.iter().filter(|optional| optional.call == call) {
        if has(optional.part) {
            let refused =
                |errno: &&'static str| (optional.part, Action::Optional(errno, optional.without));
            actions.extend(refusals.iter().map(refused));
        }
    }
    for faults in faults::ALL.iter().filter(|faults| faults.call == call) {
        if has(faults.part) {
            let fatal = faults.fatal.iter().map(|errno| (faults.part, Action::Fatal(errno)));
            let harmless =
                faults.harmless.iter().map(|errno| (faults.part, Action::Harmless(errno)));
            actions.extend(fatal.chain(harmless));
        }
    }
    actions
}
