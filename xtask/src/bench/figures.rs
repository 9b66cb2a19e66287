//! What many runs say: middle, best case and scatter of a series, and how two series compare.

use serde::Serialize;

/// A series of times, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) minimum: f64,
    /// Distance between the quartiles, as a part of the median: one disturbed run out of five does
    /// not move it, a machine that is busy all the time does.
    pub(crate) spread: f64,
}

impl Summary {
    /// # Panics
    ///
    /// If there is no value.
    pub(crate) fn of(values: &[f64]) -> Self {
        let sorted = sorted(values);
        let [low, median, high] = [1, 2, 3].map(|quarter| quartile(&sorted, quarter));
        Self { median, minimum: sorted[0], spread: (high - low) / median }
    }
}

/// # Panics
///
/// If there is no value.
pub(crate) fn median(values: &[f64]) -> f64 {
    quartile(&sorted(values), 2)
}

/// How many times as long as `base` it took: the median of the ratios within each round.
///
/// Whatever slows the whole machine for a while slows both runs of a round, and leaves their ratio.
/// A ratio of medians would compare runs from different moments.
pub(crate) fn ratio(times: &[f64], base: &[f64]) -> f64 {
    let rounds: Vec<_> = times.iter().zip(base).map(|(time, base)| time / base).collect();
    median(&rounds)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value that so many quarters of all values are below, interpolated between neighbours.
fn quartile(sorted: &[f64], quarters: usize) -> f64 {
    let rank = (sorted.len() - 1) * quarters;
    let below = sorted[rank / 4];
    let above = sorted.get(rank / 4 + 1).copied().unwrap_or(below);
    below + (above - below) * (rank % 4) as f64 / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn the_spread_is_that_of_the_middle_half() {
        let even = Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(even, Summary { median: 3.0, minimum: 1.0, spread: 2.0 / 3.0 });
        let disturbed = Summary::of(&[10.0, 10.0, 10.0, 10.0, 99.0]);
        assert_eq!(disturbed, Summary { median: 10.0, minimum: 10.0, spread: 0.0 });
        assert_eq!(Summary::of(&[7.0]).spread, 0.0);
    }

    #[test]
    fn a_ratio_compares_runs_of_the_same_round() {
        let (times, base) = ([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]);
        assert_eq!(ratio(&times, &base), 2.0);
        // One slow run on one side only is one ratio of three.
        assert_eq!(ratio(&[2.0, 2.0, 90.0], &[1.0, 1.0, 1.0]), 2.0);
    }
}
