//! Figures as tables for people.

use anyhow::Result;

use super::bars::Verdict;
use super::series::Measured;
use super::{host, units};
use crate::table::Table;

const COLUMNS: [(&str, usize); 9] = [
    ("", 20),
    ("median ms", 9),
    ("minimum", 7),
    ("spread", 6),
    ("GB/s", 5),
    ("x usual", 7),
    ("x limit", 7),
    ("CPU s", 6),
    ("peak memory", 11),
];

/// Prints what the columns of figures are.
pub(crate) fn print_legend() {
    println!(
        "spread: distance between the quartiles, as a part of the median\n\
         x usual, x limit: times as fast, the median of the ratios within each round\n\
         usual: cp for each copy; 8 at a time for 1,000, and dd conv=fsync beside --sync\n\
         limit: writing from a processor's cache into reserved files, and nothing else\n\
         peak memory: that of the process with most; \"<\" if no more than the bench's own"
    );
}

/// Prints a row for each contender.
pub(crate) fn print_figures(measured: &Measured) -> Result<()> {
    let mut table = Table::new(&COLUMNS)?;
    let floor = host::own_peak_bytes()?;
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    for figures in measured.figures() {
        let no_more = if figures.peak_bytes > floor { "" } else { "< " };
        let cells = [
            format!("{:.1}", figures.seconds.median * 1e3),
            format!("{:.1}", figures.seconds.minimum * 1e3),
            format!("{:.0}%", figures.seconds.spread * 100.0),
            format!("{:.2}", figures.gigabytes_per_second),
            ratio(figures.times_as_fast_as_usual),
            ratio(figures.times_as_fast_as_limit),
            format!("{:.3}", figures.cpu_seconds),
            format!("{no_more}{}", units::size(figures.peak_bytes)),
        ];
        table.cell(&figures.contender.to_string())?;
        for (text, (_, width)) in cells.iter().zip(&COLUMNS[1..]) {
            table.cell(&format!("{text:>width$}"))?;
        }
    }
    Ok(())
}

/// Prints a row for each bar.
pub(crate) fn print_bars(verdicts: &[Verdict]) -> Result<()> {
    let width = verdicts.iter().map(|verdict| verdict.what.len()).max().unwrap_or(0);
    let mut table = Table::new(&[("bar", width), ("wanted", 13), ("measured", 8), ("verdict", 7)])?;
    for verdict in verdicts {
        table.cell(&verdict.what)?;
        table.cell(&verdict.wanted)?;
        table.cell(&format!("{:8.2}", verdict.measured))?;
        table.cell(if verdict.met { "met" } else { "not met" })?;
    }
    Ok(())
}
