//! Peers that hold the others up: when one counts as slow, and what becomes of it.

use std::time::Duration;

use crate::Source;

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

impl OnSlow {
    /// What applies to this source: a peer of a stream cannot be detached, so `Detach` becomes `Wait`.
    #[must_use]
    pub fn for_source(self, source: &Source) -> Self {
        match self {
            Self::Detach if !source.can_be_shared() => Self::Wait,
            other => other,
        }
    }
}

/// Decides when a peer has held the others up for too long.
///
/// Some peer is always the last of a round, and with more peers than processors half of them wait half
/// of the time, however equal they are. So only delays count in which at least half of the peers were
/// idle because of one. Patience ends once such delays fill three quarters of a span and add up to an
/// eighth of the run so far: short runs do not lose most of their time, and long ones bear hiccups. It is
/// [`LEAST`](Self::LEAST) at least and [`MOST`](Self::MOST) at most.
///
/// That is for [`OnSlow::Detach`], where a wrong guess costs little. To drop a peer cannot be undone, and
/// a busy machine may well not let it run for a while: that takes delays of
/// [`BEFORE_DROP`](Self::BEFORE_DROP).
///
/// ```
/// use std::time::Duration;
/// use ipc_core::{OnSlow, Patience};
///
/// let at = Duration::from_millis;
/// let mut patience = Patience::new(OnSlow::Detach, at(0));
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
    /// The least and the most that is too much.
    limits: (Duration, Duration),
}

impl Patience {
    /// The shortest time of being held up that is too much.
    pub const LEAST: Duration = Duration::from_millis(15);

    /// A time of being held up that always is too much.
    pub const MOST: Duration = Duration::from_millis(100);

    /// Delays that are too much if the peer is to be dropped.
    pub const BEFORE_DROP: Duration = Duration::from_secs(2);

    /// Patience for a run that begins `now`, by [`io::now`](crate::io::now).
    #[must_use]
    pub fn new(on_slow: OnSlow, now: Duration) -> Self {
        let limits = match on_slow {
            OnSlow::Detach => (Self::LEAST, Self::MOST),
            OnSlow::Drop => (Self::BEFORE_DROP, Self::BEFORE_DROP),
            OnSlow::Wait => (Duration::MAX, Duration::MAX),
        };
        Self { began: now, since: now, delayed: Duration::ZERO, until: now, limits }
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
        let enough = self.delayed >= (run / 8).clamp(self.limits.0, self.limits.1);
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
        let mut patience = Patience::new(OnSlow::Detach, Duration::from_secs(1000));
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
    fn who_is_dropped_has_more_time() {
        for (on_slow, enough) in [(OnSlow::Drop, Some(2000)), (OnSlow::Wait, None)] {
            let mut patience = Patience::new(on_slow, Duration::ZERO);
            let mut ends = (0..100_000)
                .filter(|&end| patience.ends(Duration::ZERO, Duration::from_millis(end)));
            assert_eq!(ends.next(), enough);
        }
    }

    #[test]
    fn no_time_is_counted_twice() {
        let mut patience = Patience::new(OnSlow::Detach, Duration::from_millis(1000));
        let at = Duration::from_millis;
        assert!(!patience.ends(at(1000), at(1009)));
        assert!(!patience.ends(at(1000), at(1009)));
        assert!(!patience.ends(at(1000), at(1014)));
        assert!(patience.ends(at(1000), at(1015)));
        assert!(!patience.ends(at(1000), at(1029)));
    }
}
