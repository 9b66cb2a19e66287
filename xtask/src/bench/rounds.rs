//! Interleaved rounds: in each of them every contender runs once.
//!
//! What else goes on in the machine changes from second to second, so contenders are compared within
//! a round, and the order moves on from round to round, so that nobody always has the same place in
//! it.
//!
//! Right before its measured run, every contender has one that does not count. It reads the source, and
//! it leaves behind the memory that the measured run will take: on a virtual machine, memory that
//! nobody has touched for a while may have to be had from the host first, at many times the cost of using it.

use anyhow::{Error, Result};

use super::contender::Contender;
use super::place::Stage;
use super::run::Run;
use super::series::Series;
use super::start;
use crate::processes;

/// Measures all contenders, the fastest first; those that fail are left out, and their errors
/// are returned.
pub(crate) fn interleaved(
    stage: &Stage,
    contenders: &[Contender],
    rounds: usize,
) -> (Vec<Series>, Vec<Error>) {
    let empty = |&contender| Series { contender, runs: Vec::new() };
    let (mut series, mut errors) = (contenders.iter().map(empty).collect::<Vec<_>>(), Vec::new());
    for _ in 0..rounds {
        series.retain_mut(|Series { contender, runs }| {
            match warm_up_and_measure(*contender, stage) {
                Ok(run) => {
                    runs.push(run);
                    true
                }
                Err(error) => {
                    errors.push(error.context(format!("{contender}, {}", stage.load)));
                    false
                }
            }
        });
        if !series.is_empty() {
            series.rotate_left(1);
        }
    }
    series.sort_by(|one, other| one.median_seconds().total_cmp(&other.median_seconds()));
    (series, errors)
}

/// Measures the second of two runs, checks every copy that it made, and clears up.
fn warm_up_and_measure(contender: Contender, stage: &Stage) -> Result<Run> {
    let run = || start::measure(contender, stage).map_err(|error| stage.explain(error));
    let measured = run()
        .and_then(|_| stage.clear())
        .and_then(|()| run())
        .and_then(|run| check(contender, stage).map(|()| run));
    if measured.is_err() {
        processes::end_all()?;
    }
    stage.clear()?;
    measured
}

fn check(contender: Contender, stage: &Stage) -> Result<()> {
    match contender {
        Contender::Limit | Contender::Forks => stage.check_lengths(stage.load.peers)?,
        Contender::BesideSlow(_) => stage.check_copies(stage.load.peers + 1)?,
        _ => stage.check_copies(stage.load.peers)?,
    }
    if contender.program().is_some() {
        stage.check_printed()?;
    }
    Ok(())
}
