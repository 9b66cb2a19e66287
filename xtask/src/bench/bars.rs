//! The bars: what the programs must reach, in figures that the bench can show.

use serde::Serialize;

use self::Demand::{Faster, Memory, Time, Within};
use super::contender::Contender::{
    self, BesideSlow, Cp, CpByEight, DdFsync, Limit, Program, Synced, Tee, Undisturbed,
};
use super::load::Load;
use super::section::Section;
use super::series::{Measured, Series};
use super::units::MIB;
use crate::build::Program::{SharedMemory, Socket};

/// What is demanded of one contender in one section.
struct Bar(Section, Contender, Demand);

enum Demand {
    /// To so many peers, at least so many times as fast as another one.
    Faster(usize, Contender, f64),
    /// To so many peers, at most so many times as long as another one.
    Within(usize, Contender, f64),
    /// From this load to the section's largest, time for each byte grows at most so many times.
    Time(Load, f64),
    /// From this load to the section's largest, peak memory grows at most so many times.
    Memory(Load, f64),
}

/// Linear growth, and some noise.
const LINEAR: f64 = 1.25;
/// No growth, but small files do not fill all buffers. (What is below the bench's own is not seen.)
const FLAT: f64 = 1.5;

const EIGHT_PEERS: Load = Load { peers: 8, bytes: 8 * MIB };
const FROM_64_MIB: Load = Load { peers: 2, bytes: 64 * MIB };
const FROM_1_MIB: Load = Load { peers: 2, bytes: MIB };

const BARS: &[Bar] = &[
    Bar(Section::Large, Program(SharedMemory), Faster(1, Cp, 2.3)),
    Bar(Section::Large, Program(SharedMemory), Faster(4, Cp, 1.8)),
    Bar(Section::Large, Program(SharedMemory), Faster(8, Cp, 1.8)),
    Bar(Section::Large, Program(Socket), Faster(1, Cp, 1.8)),
    Bar(Section::Large, Program(Socket), Faster(4, Cp, 1.35)),
    Bar(Section::Large, Program(Socket), Faster(8, Cp, 1.25)),
    Bar(Section::Large, Program(SharedMemory), Faster(1, Limit, 0.75)),
    Bar(Section::Large, Program(SharedMemory), Faster(4, Limit, 0.75)),
    Bar(Section::Large, Program(SharedMemory), Faster(8, Limit, 0.85)),
    Bar(Section::Large, Program(SharedMemory), Faster(1, Tee, 3.0)),
    Bar(Section::Large, Program(SharedMemory), Faster(4, Tee, 7.0)),
    Bar(Section::Large, Program(SharedMemory), Faster(8, Tee, 7.0)),
    Bar(Section::Large, Program(Socket), Faster(1, Tee, 3.0)),
    Bar(Section::Large, Program(Socket), Faster(4, Tee, 7.0)),
    Bar(Section::Large, Program(Socket), Faster(8, Tee, 7.0)),
    Bar(Section::Peers, Program(SharedMemory), Time(EIGHT_PEERS, LINEAR)),
    Bar(Section::Peers, Program(Socket), Time(EIGHT_PEERS, LINEAR)),
    Bar(Section::Sizes, Program(SharedMemory), Time(FROM_64_MIB, LINEAR)),
    Bar(Section::Sizes, Program(Socket), Time(FROM_64_MIB, LINEAR)),
    Bar(Section::Sizes, Program(SharedMemory), Memory(FROM_1_MIB, FLAT)),
    Bar(Section::Sizes, Program(Socket), Memory(FROM_1_MIB, FLAT)),
    Bar(Section::Small, Program(SharedMemory), Within(1, Cp, 2.0)),
    Bar(Section::Small, Program(Socket), Within(1, Cp, 2.0)),
    Bar(Section::Small, Program(SharedMemory), Faster(1000, CpByEight, 8.0)),
    Bar(Section::Small, Program(Socket), Faster(1000, CpByEight, 8.0)),
    Bar(Section::Sync, Synced(SharedMemory), Within(1, DdFsync, 1.0)),
    Bar(Section::Sync, Synced(SharedMemory), Within(4, DdFsync, 1.0)),
    Bar(Section::Sync, Synced(Socket), Within(1, DdFsync, 1.0)),
    Bar(Section::Sync, Synced(Socket), Within(4, DdFsync, 1.0)),
    Bar(Section::Slow, BesideSlow(SharedMemory), Within(3, Undisturbed(SharedMemory), 1.3)),
    Bar(Section::Slow, BesideSlow(Socket), Within(3, Undisturbed(Socket), 1.3)),
];

/// What became of a bar.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) measured: f64,
    pub(crate) met: bool,
}

/// All bars of which something was measured.
pub(crate) fn judge(measured: &[Measured]) -> Vec<Verdict> {
    BARS.iter().filter_map(|bar| bar.judge(measured)).collect()
}

impl Bar {
    fn judge(&self, measured: &[Measured]) -> Option<Verdict> {
        let &Self(section, contender, ref demand) = self;
        let heats: Vec<_> = measured.iter().filter(|heat| heat.section == section).collect();
        let to = |peers| heats.iter().find(|heat| heat.load.peers == peers);
        match *demand {
            Faster(peers, than, wanted) => {
                let heat = to(peers)?;
                let what = format!("{}: {contender}, times as fast as {than}", heat.load);
                Some(Verdict::at_least(wanted, what, heat.ratio(than, contender)?))
            }
            Within(peers, of, wanted) => {
                let heat = to(peers)?;
                let what = format!("{}: {contender}, times as long as {of}", heat.load);
                Some(Verdict::at_most(wanted, what, heat.ratio(contender, of)?))
            }
            Time(from, wanted) => {
                // Of a throttled load it is the disk's speed that was measured.
                let heats = heats.into_iter().filter(|heat| !heat.throttled);
                let (heats, grown) = growth(heats, from, contender, seconds_per_byte)?;
                Some(Verdict::at_most(wanted, format!("{heats}, time per byte"), grown))
            }
            Memory(from, wanted) => {
                let peak = |_, series: &Series| series.peak_bytes() as f64;
                let (heats, grown) = growth(heats.into_iter(), from, contender, peak)?;
                Some(Verdict::at_most(
                    wanted,
                    format!("{heats}, peak memory beyond the bench's own"),
                    grown,
                ))
            }
        }
    }
}

fn seconds_per_byte(load: Load, series: &Series) -> f64 {
    series.median_seconds() / load.delivered() as f64
}

/// How many times as large a figure is with the last load as with the one that is given, and in
/// words from where to where.
fn growth<'m>(
    heats: impl Iterator<Item = &'m Measured>,
    from: Load,
    contender: Contender,
    figure: fn(Load, &Series) -> f64,
) -> Option<(String, f64)> {
    let mut heats = heats.skip_while(|heat| heat.load != from);
    let (first, last) = (heats.next()?, heats.last()?);
    let [low, high] = [first, last].map(|heat| Some(figure(heat.load, heat.series(contender)?)));
    Some((format!("{from} -> {}: {contender}", last.load), high? / low?))
}

impl Verdict {
    fn at_least(wanted: f64, what: String, measured: f64) -> Self {
        Self { what, wanted: format!("at least {wanted}"), measured, met: measured >= wanted }
    }

    fn at_most(wanted: f64, what: String, measured: f64) -> Self {
        Self { what, wanted: format!("at most {wanted}"), measured, met: measured <= wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::run::Run;

    fn measured(section: Section, load: Load, seconds: &[(Contender, &[f64])]) -> Measured {
        let run = |&seconds: &f64| Run { seconds, cpu_seconds: 0.0, peak_bytes: 7 * MIB };
        let series = |&(contender, seconds): &(_, &[f64])| Series {
            contender,
            runs: seconds.iter().map(run).collect(),
        };
        let series = seconds.iter().map(series).collect();
        Measured { section, load, throttled: false, series }
    }

    fn in_short(verdicts: &[Verdict]) -> Vec<(&str, f64, bool)> {
        verdicts.iter().map(|it| (it.what.as_str(), it.measured, it.met)).collect()
    }

    #[test]
    fn speed_is_met_from_the_bar_upwards() {
        let load = Load { peers: 4, bytes: 256 * MIB };
        let heat = |cp: &[f64]| {
            let times = [(Program(SharedMemory), &[1.0, 10.0, 1.0][..]), (Cp, cp)];
            judge(&[measured(Section::Large, load, &times)])
        };
        let what = "256 MiB to 4 peers: sharedmem, times as fast as cp";
        assert_eq!(in_short(&heat(&[1.8, 18.0, 1.8])), [(what, 1.8, true)]);
        assert_eq!(in_short(&heat(&[1.5, 15.0, 1.5])), [(what, 1.5, false)]);
    }

    #[test]
    fn duration_is_met_from_the_bar_downwards() {
        let load = Load { peers: 1, bytes: 4096 };
        let heat = |seconds: f64| {
            let times = [(Program(Socket), &[seconds][..]), (Cp, &[1.0][..])];
            judge(&[measured(Section::Small, load, &times)])
        };
        let what = "4 KiB to 1 peer: socket, times as long as cp";
        assert_eq!(in_short(&heat(2.0)), [(what, 2.0, true)]);
        assert_eq!(in_short(&heat(2.5)), [(what, 2.5, false)]);
    }

    #[test]
    fn growth_is_from_the_first_load_that_counts_to_the_last_one_not_throttled() {
        let heat = |bytes, seconds: f64| {
            let load = Load { peers: 2, bytes };
            measured(Section::Sizes, load, &[(Program(Socket), &[seconds])])
        };
        let mut heats =
            [heat(MIB, 0.5), heat(64 * MIB, 1.0), heat(256 * MIB, 8.0), heat(1024 * MIB, 99.0)];
        heats[3].throttled = true;
        let verdicts = judge(&heats);
        let time = "64 MiB to 2 peers -> 256 MiB to 2 peers: socket, time per byte";
        let memory =
            "1 MiB to 2 peers -> 1 GiB to 2 peers: socket, peak memory beyond the bench's own";
        assert_eq!(in_short(&verdicts), [(time, 2.0, false), (memory, 1.0, true)]);
        assert_eq!(
            in_short(&judge(&heats[..2])),
            [(
                "1 MiB to 2 peers -> 64 MiB to 2 peers: socket, peak memory beyond the bench's own",
                1.0,
                true
            )]
        );
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(judge(&[]), []);
    }
}
