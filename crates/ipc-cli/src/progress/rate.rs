//! How fast peers are just now.

use std::time::Duration;

use ipc_core::PeerProgress;

/// How long what a peer did once has a say in its rate: after so long, a third of what it had.
const MEMORY: Duration = Duration::from_secs(5);

/// A peer that has done nothing for so long has no rate.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The rates of all peers, by number.
#[derive(Debug, Default)]
pub(super) struct Rates(Vec<Rate>);

/// The rate of one peer: what it has done in a time, of both of which older parts count for less.
#[derive(Debug)]
struct Rate {
    bytes: f64,
    seconds: f64,
    /// What it had done at the last look, and when that was.
    done: u64,
    looked: Duration,
    /// When it had last done something.
    moved: Duration,
}

impl Rates {
    /// Looks at what all peers have done by `now`, counted from any fixed time.
    pub(super) fn look(&mut self, peers: &[PeerProgress], now: Duration) {
        for (number, peer) in peers.iter().enumerate() {
            match self.0.get_mut(number) {
                Some(rate) => rate.look(peer.done, now),
                None => self.0.push(Rate::new(peer.done, now)),
            }
        }
    }

    /// The rate of each peer in bytes per second; 0 of one that does nothing.
    pub(super) fn each(&self) -> Vec<f64> {
        self.0.iter().map(Rate::get).collect()
    }
}

impl Rate {
    fn new(done: u64, now: Duration) -> Self {
        Self { bytes: 0.0, seconds: 0.0, done, looked: now, moved: now }
    }

    #[allow(clippy::cast_precision_loss, reason = "no rate is known so exactly")]
    fn look(&mut self, done: u64, now: Duration) {
        let time = now.saturating_sub(self.looked).as_secs_f64();
        let stays = (-time / MEMORY.as_secs_f64()).exp();
        self.bytes = self.bytes * stays + done.saturating_sub(self.done) as f64;
        self.seconds = self.seconds * stays + time;
        if done != self.done {
            self.moved = now;
        }
        (self.done, self.looked) = (done, now);
    }

    fn get(&self) -> f64 {
        let is_moving = self.looked.saturating_sub(self.moved) < PAUSE;
        if is_moving && self.seconds > 0.0 { self.bytes / self.seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_core::{Activity, PeerId};

    /// The rate of a peer that has done so much at each tenth of a second up to the last.
    fn rate_at(last: u64, done: impl Fn(u64) -> u64) -> f64 {
        let mut rates = Rates::default();
        for tenth in 0..=last {
            let (id, activity, is_detached) = (PeerId(0), Activity::Working, false);
            let peer = PeerProgress { id, pid: 1, done: done(tenth), activity, is_detached };
            rates.look(&[peer], Duration::from_millis(1000 + 100 * tenth));
        }
        rates.each()[0]
    }

    #[test]
    fn a_steady_peer_s_rate_is_what_it_does() {
        for last in [1, 5, 1000] {
            assert!((rate_at(last, |tenth| 7 + 100 * tenth) - 1000.0).abs() < 0.1, "{last}");
        }
    }

    #[test]
    fn a_disk_that_writes_now_and_then_has_its_mean_rate() {
        let rate = rate_at(600, |tenth| 4000 * (tenth / 4));
        assert!((9000.0..11_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_peer_that_becomes_slow_has_its_new_rate_soon() {
        let slows = |tenth: u64| 10_000 * tenth.min(100) + 100 * tenth.saturating_sub(100);
        assert!(rate_at(100, slows) > 90_000.0);
        let rate = rate_at(100 + 250, slows);
        assert!((1000.0..2000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_peer_that_does_nothing_has_none() {
        let stops = |tenth: u64| 100 * tenth.min(50);
        assert!(rate_at(59, stops) > 0.0);
        assert_eq!(rate_at(60, stops), 0.0);
        assert_eq!(rate_at(0, stops), 0.0);
        // It may even say that it has done less than before.
        assert_eq!(rate_at(1, |tenth| 10 - tenth), 0.0);
    }
}
