//! Peers that hold the others up: when one counts as slow, and what becomes of it.

use std::time::Duration;

/// What becomes of a peer that holds the others up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSlow {
    /// It is detached: nobody waits for it any more, and it reads the rest of the source by itself. A
    /// source that can be read only once cannot be read so; there the others wait.
    #[default]
    Detach,
    /// The others wait for it.
    Wait,
    /// It fails.
    Drop,
}

/// Tells a peer that holds the others up from one that merely is the last of a round.
///
/// Somebody always is the last. Where peers outnumber processors, half of them are done with a round
/// when half of its time is over, however equal they are. So patience ends only where half of the
/// peers have had nothing to do for three quarters of a time. How long that must be grows with the run,
/// an eighth of its time so far, so that short runs do not lose most of theirs and long ones bear
/// hiccups.
///
/// ```
/// use std::time::Duration;
/// use ipc_core::Patience;
///
/// let at = Duration::from_millis;
/// let mut patience = Patience::new(at(0));
/// assert!(!patience.ends(at(0), at(7)));
/// assert!(!patience.ends(at(8), at(14)));
/// assert!(patience.ends(at(15), at(18)));
/// ```
#[derive(Debug)]
pub struct Patience {
    /// When the run began.
    began: Duration,
    /// When the first of the delays that count began.
    since: Duration,
    /// How long these were, together.
    delayed: Duration,
    /// When the last of them was over.
    until: Duration,
}

impl Patience {
    /// The shortest time of being held up that is too much.
    pub const LEAST: Duration = Duration::from_millis(15);

    /// A time of being held up that always is too much.
    pub const MOST: Duration = Duration::from_millis(100);

    /// Patience for a run that begins `now`, by [`io::now`](crate::io::now).
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { began: now, since: now, delayed: Duration::ZERO, until: now }
    }

    /// Notes that from `begin` to `end` at least half of the peers had nothing to do because of another
    /// one. Says whether that is enough; then it starts anew.
    pub fn ends(&mut self, begin: Duration, end: Duration) -> bool {
        let begin = begin.max(self.until);
        self.until = end.max(self.until);
        let delay = end.saturating_sub(begin);
        self.delayed += delay;
        if self.delayed * 4 < self.until.saturating_sub(self.since) * 3 {
            (self.since, self.delayed) = (begin, delay);
        }
        let run = self.until.saturating_sub(self.began);
        let enough = self.delayed >= (run / 8).clamp(Self::LEAST, Self::MOST);
        if enough {
            (self.since, self.delayed) = (self.until, Duration::ZERO);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether delays of `delay` ms, with `pause` ms between them, are ever too much, from so many
    /// ms into a run.
    fn is_too_much(delay: u64, pause: u64, run: u64) -> bool {
        let mut patience = Patience::new(Duration::from_secs(1000));
        (0..1000).any(|round| {
            let begin = 1_000_000 + run + round * (delay + pause);
            patience.ends(Duration::from_millis(begin), Duration::from_millis(begin + delay))
        })
    }

    #[test]
    fn only_delays_that_fill_most_of_the_time_are_too_much() {
        for (delay, pause, run, expected) in [
            (1, 0, 0, true),
            (32, 1, 0, true),
            (3, 1, 0, true),
            (5, 4, 0, false),
            (1, 1, 0, false),
            (14, 14, 0, false),
            (15, 10_000, 0, true),
            (15, 10_000, 800, false),
            (99, 10_000, 800, false),
            (100, 10_000, 800, true),
        ] {
            assert_eq!(is_too_much(delay, pause, run), expected, "{delay} {pause} {run}");
        }
    }

    #[test]
    fn no_time_is_counted_twice() {
        let mut patience = Patience::new(Duration::from_millis(1000));
        let at = Duration::from_millis;
        assert!(!patience.ends(at(1000), at(1009)));
        assert!(!patience.ends(at(1000), at(1009)));
        assert!(!patience.ends(at(1000), at(1014)));
        assert!(patience.ends(at(1000), at(1015)));
        assert!(!patience.ends(at(1000), at(1029)));
    }
}
