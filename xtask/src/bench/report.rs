//! All results as JSON: every single run, and the figures that come of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::bars::Verdict;
use super::host::{self, Host};
use super::load::Load;
use super::results::Results;
use super::section::Section;
use super::series::{Figures, Measured};

/// Moves on with every change that a reader has to know of.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Report<'r> {
    version: u32,
    host: &'r Host,
    /// A process that had less than this at most seems to have had this.
    peak_bytes_floor: u64,
    loads: Vec<OfLoad<'r>>,
    bars: &'r [Verdict],
    notes: &'r [String],
    /// Runs that went wrong; what they said may have paths in it, and is not for others.
    errors: usize,
}

#[derive(Debug, Serialize)]
struct OfLoad<'r> {
    section: Section,
    #[serde(flatten)]
    load: Load,
    throttled: bool,
    contenders: Vec<Figures<'r>>,
}

impl<'r> From<&'r Measured> for OfLoad<'r> {
    fn from(measured: &'r Measured) -> Self {
        let &Measured { section, load, throttled, .. } = measured;
        Self { section, load, throttled, contenders: measured.figures() }
    }
}

/// Writes all of it to a file.
pub(crate) fn write(results: &Results, bars: &[Verdict], path: &Path) -> Result<()> {
    let Results { host, measured, notes, errors } = results;
    let report = Report {
        version: VERSION,
        host,
        peak_bytes_floor: host::own_peak_bytes()?,
        loads: measured.iter().map(OfLoad::from).collect(),
        bars,
        notes,
        errors: errors.len(),
    };
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(path, json + "\n").with_context(|| format!("cannot write {path:?}"))
}
