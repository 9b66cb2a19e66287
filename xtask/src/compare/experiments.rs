//! The rows of the table, and the experiment that decides each cell of it.

mod faults;
mod features;
mod names;
mod network;
mod sources;

use anyhow::Result;

use super::cell::Cell;
use super::scene::Scene;

/// A question that is put to every tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Experiment {
    pub(crate) title: &'static str,
    /// Puts it, in a fresh scene.
    pub(crate) answer: fn(&Scene) -> Result<Cell>,
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Experiment] = &[
    Experiment { title: "reads a file once for all copies", answer: sources::reads_once },
    Experiment { title: "takes a stream", answer: sources::takes_stream },
    Experiment {
        title: "each name has a whole file at any moment, the old one or the new one",
        answer: names::are_whole,
    },
    Experiment {
        title: "`SIGKILL` in mid-copy leaves no part of a file",
        answer: names::leaves_nothing,
    },
    Experiment {
        title: "one disk has no room: the others get whole copies",
        answer: faults::spares_others,
    },
    Experiment {
        title: "one disk gets full meanwhile: the others get whole copies",
        answer: faults::spares_others_meanwhile,
    },
    Experiment { title: "... and exit status and message say which", answer: faults::tells_which },
    Experiment {
        title: "one copy stands still: the others become whole meanwhile",
        answer: faults::waits_for_nobody,
    },
    Experiment {
        title: "says so if the source changed meanwhile",
        answer: sources::notices_change,
    },
    Experiment { title: "reads the stored copies back and compares", answer: features::verifies },
    Experiment { title: "holes stay holes", answer: features::keeps_holes },
    Experiment { title: "keeps mode and time", answer: features::keeps_mode_and_time },
    Experiment { title: "copies directories", answer: features::copies_directory },
    Experiment { title: "feeds other programs, through FIFOs", answer: features::feeds_programs },
    Experiment { title: "copies to other machines", answer: network::reaches_others },
    Experiment { title: "tells its progress, to a log too", answer: features::shows_progress },
    Experiment { title: "a report for programs, as JSON", answer: features::reports_json },
];
