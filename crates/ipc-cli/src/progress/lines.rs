//! Progress as lines of text, for a log or for a terminal that cannot draw.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Canvas;
use super::frame::{Frame, State};
use crate::message::message;

/// How often there is a line.
const PAUSE: Duration = Duration::from_secs(1);

/// How many peers a line tells of, beside the whole.
const FEW: usize = 3;

/// Lines on standard error.
pub(super) struct Lines {
    program: &'static str,
    /// Never drawn; it knows the rate.
    total: ProgressBar,
    last: Option<Instant>,
}

impl Lines {
    pub(super) fn new(program: &'static str) -> Self {
        Self { program, total: ProgressBar::hidden(), last: None }
    }
}

impl Canvas for Lines {
    fn draw(&mut self, frame: &Frame, is_due: bool) {
        self.total.set_position(frame.done_by_all());
        if !is_due || self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.last = Some(Instant::now());
        let percent = frame.percent().map_or_else(String::new, |percent| format!("{percent}%, "));
        let total = frame.tell_total(self.total.per_sec());
        let mut text = format!("{percent}{total}; {}", frame.tell_counts());
        let peers = frame.slowest(FEW);
        for peer in peers.into_iter().filter(|peer| is_slow(frame.state(peer))) {
            text.push_str(&format!("; peer {}: {}", peer.id, frame.tell(peer)));
        }
        message(self.program, &text);
    }

    fn say(&mut self, text: &str) {
        message(self.program, text);
    }

    fn clear(&mut self) {}
}

fn is_slow(state: State) -> bool {
    matches!(state, State::Awaited(_) | State::Detached)
}
