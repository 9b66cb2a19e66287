//! The charts of README.md: throughput over the number of peers, and time over the size.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::style::RGBColor;

use super::chart::{Axis, Chart, Line};
use super::contender::Contender;
use super::section::Section;
use super::series::{Measured, Series};
use super::units;
use crate::build::Program::{SharedMemory, Socket};

/// Who is drawn, in colours that the colour-blind can tell apart (Okabe and Ito's).
const LINES: [(Contender, RGBColor); 5] = [
    (Contender::Limit, RGBColor(0x8c, 0x95, 0x9f)),
    (Contender::Program(SharedMemory), RGBColor(0x00, 0x72, 0xb2)),
    (Contender::Program(Socket), RGBColor(0xd5, 0x5e, 0x00)),
    (Contender::Cp, RGBColor(0x00, 0x9e, 0x73)),
    (Contender::Tee, RGBColor(0xcc, 0x79, 0xa7)),
];

/// Draws what has been measured with several loads.
pub(crate) fn draw(measured: &[Measured], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {directory:?}"))?;
    let charts = [
        ("throughput.svg", Section::Peers, throughput as fn(&[&Measured]) -> Chart),
        ("time.svg", Section::Sizes, time),
    ];
    for (name, section, chart) in charts {
        let heats: Vec<_> = measured.iter().filter(|heat| heat.section == section).collect();
        if heats.len() > 1 {
            let path = directory.join(name);
            chart(&heats).draw(&path).with_context(|| format!("cannot draw {path:?}"))?;
        }
    }
    Ok(())
}

fn throughput(heats: &[&Measured]) -> Chart {
    let x = |heat: &Measured| (heat.load.peers as f64).log2();
    let y = |heat: &Measured, series: &Series| heat.gigabytes_per_second(series);
    let lines = lines(heats, x, y);
    let ticks = heats.iter().map(|heat| (x(heat), heat.load.peers.to_string())).collect();
    Chart {
        title: format!("Throughput: {} to each peer", units::size(heats[0].load.bytes)),
        x: Axis { name: "number of peers".into(), ticks, margin: 0.03 },
        y: Axis { name: "GB/s to all peers together".into(), ticks: steps(&lines), margin: 0.0 },
        lines,
    }
}

fn time(heats: &[&Measured]) -> Chart {
    let x = |heat: &Measured| (heat.load.bytes as f64).log2();
    let y = |_: &Measured, series: &Series| series.median_seconds().log10();
    let lines = lines(heats, x, y);
    let ticks = heats.iter().map(|heat| (x(heat), units::size(heat.load.bytes))).collect();
    let throttled = heats.iter().find(|heat| heat.throttled).map_or_else(String::new, |heat| {
        format!(" (from {} on, that of the disk)", units::size(heat.load.bytes))
    });
    Chart {
        title: format!("Time to copy a file to {} peers", heats[0].load.peers),
        x: Axis { name: "size of the file".into(), ticks, margin: 0.03 },
        y: Axis { name: format!("time{throttled}"), ticks: decades(&lines), margin: 0.0 },
        lines,
    }
}

/// A line for everybody who was measured with one load at least.
fn lines(
    heats: &[&Measured],
    x: impl Fn(&Measured) -> f64,
    y: impl Fn(&Measured, &Series) -> f64,
) -> Vec<Line> {
    let line = |(contender, color): (Contender, _)| {
        let point = |heat: &&Measured| Some((x(heat), y(heat, heat.series(contender)?)));
        let points = heats.iter().filter_map(point).collect();
        Line { name: contender.to_string(), color, points }
    };
    LINES.into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn heights(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| line.points.iter().map(|&(_, y)| y))
}

/// From 0 to the first one that nothing is above, in a few steps.
fn steps(lines: &[Line]) -> Vec<(f64, String)> {
    let top = heights(lines).fold(0.0, f64::max);
    let step = [0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|step| top / step <= 8.0);
    let step = step.unwrap_or(20.0);
    let ticks = (0..).map(|tick| f64::from(tick) * step);
    ticks.take_while(|tick| tick - step < top).map(|tick| (tick, tick.to_string())).collect()
}

/// The powers of ten that all heights, logarithms of seconds, are between.
fn decades(lines: &[Line]) -> Vec<(f64, String)> {
    let low = heights(lines).fold(f64::MAX, f64::min);
    let high = heights(lines).fold(f64::MIN, f64::max);
    let decades = (-6..=5).map(|exponent| (f64::from(exponent), power_of_ten(exponent)));
    decades.filter(|(place, _)| place + 1.0 > low && place - 1.0 < high).collect()
}

/// So many powers of ten of a second.
fn power_of_ten(exponent: i32) -> String {
    let (exponent, unit) = match exponent {
        ..-3 => (exponent + 6, "\u{b5}s"),
        -3..0 => (exponent + 3, "ms"),
        0.. => (exponent, "s"),
    };
    format!("{} {unit}", 10_u64.pow(exponent.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(heights: &[f64]) -> Line {
        let points = heights.iter().map(|&y| (0.0, y)).collect();
        Line { name: String::new(), color: LINES[0].1, points }
    }

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn steps_end_with_the_first_that_nothing_is_above() {
        assert_eq!(
            labels(steps(&[line(&[0.3, 4.0])])),
            ["0", "0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4"]
        );
        assert_eq!(
            labels(steps(&[line(&[0.3]), line(&[11.2])])),
            ["0", "2", "4", "6", "8", "10", "12"]
        );
    }

    #[test]
    fn decades_are_around_all_heights() {
        assert_eq!(labels(decades(&[line(&[-2.7, -0.1])])), ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!(labels(decades(&[line(&[-3.5]), line(&[1.2])])).len(), 7);
        assert_eq!(power_of_ten(-4), "100 \u{b5}s");
        assert_eq!(power_of_ten(2), "100 s");
    }
}
