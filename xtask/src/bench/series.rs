//! What was measured with one load, and the figures that come of it.

use serde::{Serialize, Serializer};

use super::contender::Contender;
use super::figures::{self, Summary};
use super::load::Load;
use super::run::Run;
use super::section::Section;

/// All runs of one contender with one load, one for each round.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) contender: Contender,
    pub(crate) runs: Vec<Run>,
}

impl Series {
    fn seconds(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.seconds).collect()
    }

    pub(crate) fn median_seconds(&self) -> f64 {
        figures::median(&self.seconds())
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0)
    }
}

/// All series of one load, which share their rounds.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) section: Section,
    pub(crate) load: Load,
    /// Whether the copies are more than the kernel lets wait for the disk: then it is the disk that
    /// was measured.
    pub(crate) throttled: bool,
    pub(crate) series: Vec<Series>,
}

impl Measured {
    pub(crate) fn series(&self, contender: Contender) -> Option<&Series> {
        self.series.iter().find(|series| series.contender == contender)
    }

    /// How many times as long as `base` a contender took, round by round.
    pub(crate) fn ratio(&self, contender: Contender, base: Contender) -> Option<f64> {
        let (times, base) = (self.series(contender)?, self.series(base)?);
        Some(figures::ratio(&times.seconds(), &base.seconds()))
    }

    /// How many gigabytes a second reached their files.
    pub(crate) fn gigabytes_per_second(&self, series: &Series) -> f64 {
        self.load.delivered() as f64 / series.median_seconds() / 1e9
    }

    /// What tables and JSON have of each series.
    pub(crate) fn figures(&self) -> Vec<Figures<'_>> {
        let usual = self.series.iter().map(|series| series.contender).find(|it| it.is_usual());
        self.series.iter().map(|series| self.figures_of(series, usual)).collect()
    }

    fn figures_of<'s>(&self, series: &'s Series, usual: Option<Contender>) -> Figures<'s> {
        let speed = |base| self.ratio(base, series.contender);
        let cpu: Vec<_> = series.runs.iter().map(|run| run.cpu_seconds).collect();
        Figures {
            contender: series.contender,
            seconds: Summary::of(&series.seconds()),
            gigabytes_per_second: self.gigabytes_per_second(series),
            times_as_fast_as_usual: usual.and_then(speed),
            times_as_fast_as_limit: speed(Contender::Limit),
            cpu_seconds: figures::median(&cpu),
            peak_bytes: series.peak_bytes(),
            runs: &series.runs,
        }
    }
}

/// One series in figures.
#[derive(Debug, Serialize)]
pub(crate) struct Figures<'s> {
    #[serde(serialize_with = "by_name")]
    pub(crate) contender: Contender,
    pub(crate) seconds: Summary,
    pub(crate) gigabytes_per_second: f64,
    /// The usual one is whoever of the load's contenders copies by one usual process for each copy.
    pub(crate) times_as_fast_as_usual: Option<f64>,
    pub(crate) times_as_fast_as_limit: Option<f64>,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) runs: &'s [Run],
}

fn by_name<S: Serializer>(contender: &Contender, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(contender)
}
