//! How far all peers have come at one moment, and the words for it.

use bytesize::ByteSize;
use ipc_core::{Activity, PeerProgress};

use super::rate::PAUSE;
use crate::message::bytes;

/// A peer that is behind by less than this is not worth a word: a few rings.
const GAP: u64 = 8 << 20;

/// How many peers a line tells of, beside the whole.
const FEW: usize = 3;

/// How far all peers have come.
#[derive(Debug)]
pub(super) struct Frame<'e> {
    /// All of them, by number.
    pub(super) peers: &'e [PeerProgress],
    /// Bytes that each has to do, if that is known.
    pub(super) each: Option<u64>,
    /// The rate of each peer just now, in bytes per second; 0 of one that does nothing.
    pub(super) rates: &'e [f64],
}

/// What is to be said of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The run waits for it, for so many seconds already.
    Awaited(u64),
    /// It reads by itself.
    Detached,
    /// It does what it should.
    Working,
    Failed,
    Stored,
}

impl State {
    /// The smaller, the more worth a word.
    fn rank(self) -> u8 {
        match self {
            Self::Awaited(_) => 0,
            Self::Detached => 1,
            Self::Working => 2,
            Self::Failed => 3,
            Self::Stored => 4,
        }
    }
}

impl Frame<'_> {
    pub(super) fn state(&self, peer: &PeerProgress) -> State {
        match peer.activity {
            Activity::Stored => State::Stored,
            Activity::Failed => State::Failed,
            Activity::Idle(time) if time >= PAUSE && self.left(peer) != Some(0) => {
                State::Awaited(time.as_secs())
            }
            Activity::Idle(_) | Activity::Working if peer.is_detached => State::Detached,
            Activity::Idle(_) | Activity::Working => State::Working,
        }
    }

    /// What a peer has done, of no more than there is to do: one that was detached may have done
    /// something twice.
    pub(super) fn done(&self, peer: &PeerProgress) -> u64 {
        self.each.map_or(peer.done, |each| peer.done.min(each))
    }

    fn left(&self, peer: &PeerProgress) -> Option<u64> {
        self.each.map(|each| each - self.done(peer))
    }

    fn live(&self) -> impl Iterator<Item = &PeerProgress> {
        self.peers.iter().filter(|peer| peer.activity != Activity::Failed)
    }

    /// What all have done that have not failed.
    pub(super) fn done_by_all(&self) -> u64 {
        // Of a stream a peer can claim to have done anything.
        self.live().map(|peer| self.done(peer)).fold(0, u64::saturating_add)
    }

    /// What all do in a second that have not failed.
    fn rate_of_all(&self) -> f64 {
        self.live().map(|peer| self.rate(peer)).sum()
    }

    fn rate(&self, peer: &PeerProgress) -> f64 {
        self.rates.get(peer.id.index()).copied().unwrap_or(0.0)
    }

    /// Seconds until the last peer has done all, each at its own rate. Nothing is known of it while one that
    /// has something to do does nothing, nor of what comes when all bytes are stored.
    fn seconds_left(&self) -> Option<u64> {
        let seconds = self.live().map(|peer| seconds(self.left(peer)?, self.rate(peer)));
        let longest = seconds.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(longest).filter(|&seconds| seconds > 0)
    }

    /// What all have to do that have not failed.
    pub(super) fn total(&self) -> Option<u64> {
        let live = u64::try_from(self.live().count()).unwrap_or(u64::MAX);
        self.each.map(|each| each.saturating_mul(live))
    }

    /// How much of that is done, in percent.
    pub(super) fn percent(&self) -> Option<usize> {
        let total = self.total().filter(|&total| total > 0)?;
        Some(share(self.done_by_all(), total, 100))
    }

    /// How far a peer is behind the one that is farthest, in bytes, if it is worth a word.
    fn lag(&self, peer: &PeerProgress) -> Option<u64> {
        let front = self.live().map(|peer| self.done(peer)).max().unwrap_or(0);
        Some(front.saturating_sub(self.done(peer))).filter(|&lag| lag >= GAP)
    }

    /// The `most` peers that have most to do still, by number.
    pub(super) fn slowest(&self, most: usize) -> Vec<&PeerProgress> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_cached_key(|peer| (self.state(peer).rank(), self.done(peer)));
        peers.truncate(most);
        peers.sort_by_key(|peer| peer.id);
        peers
    }

    /// How one peer is getting on.
    pub(super) fn tell(&self, peer: &PeerProgress) -> String {
        let lag = self.lag(peer).map(|lag| format!("{} behind", ByteSize(lag)));
        let parts = match self.state(peer) {
            State::Stored => [Some("stored".to_owned()), None],
            State::Failed => [Some("failed".to_owned()), None],
            State::Awaited(seconds) => {
                [Some(format!("waiting {seconds} s for pid {}", peer.pid)), None]
            }
            State::Detached => [Some("detached".to_owned()), lag],
            State::Working => [Some(ByteSize(self.done(peer)).to_string()), lag],
        };
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// How many peers there are, and how many of them need a word.
    pub(super) fn tell_counts(&self) -> String {
        let count = |is_one: fn(State) -> bool| {
            self.peers.iter().filter(|peer| is_one(self.state(peer))).count()
        };
        let states = [
            (count(|state| state == State::Stored), "stored"),
            (count(|state| state == State::Failed), "failed"),
            (count(|state| state == State::Detached), "detached"),
            (count(|state| matches!(state, State::Awaited(_))), "waited for"),
        ];
        let states = states.into_iter().filter(|&(count, _)| count > 0);
        let parts = states.map(|(count, word)| format!("{count} {word}"));
        let all = format!("{} peers", self.peers.len());
        [all].into_iter().chain(parts).collect::<Vec<_>>().join(", ")
    }

    /// All of it on one line.
    pub(super) fn tell_all(&self) -> String {
        let percent = self.percent().map_or_else(String::new, |percent| format!("{percent}%, "));
        let total = self.tell_total(usize::MAX);
        let mut text = format!("{percent}{total}; {}", self.tell_counts());
        let slowest = self.slowest(FEW).into_iter();
        for peer in slowest.filter(|peer| self.state(peer).rank() < State::Working.rank()) {
            text.push_str(&format!("; peer {}: {}", peer.id, self.tell(peer)));
        }
        text
    }

    /// How the whole is getting on, in so many columns at most.
    pub(super) fn tell_total(&self, columns: usize) -> String {
        let rate = self.rate_of_all();
        let parts = [
            Some(ByteSize(self.done_by_all()).to_string()),
            (rate >= 1.0).then(|| format!("{}/s", bytes(rate))),
            self.seconds_left().map(|seconds| format!("{} left", time(seconds))),
        ];
        let mut parts: Vec<_> = parts.into_iter().flatten().collect();
        while parts.len() > 1 && parts.join(", ").len() > columns {
            parts.pop();
        }
        parts.join(", ")
    }
}

/// How many of `parts` are done.
pub(super) fn share(done: u64, total: u64, parts: usize) -> usize {
    // Where there is nothing to do, all of it is done.
    let (done, total) = (u128::from(done), u128::from(total));
    let share = (done * parts as u128).checked_div(total).unwrap_or(parts as u128);
    usize::try_from(share).unwrap_or(parts).min(parts)
}

/// How many seconds so many bytes take at so many bytes per second; none of nothing, and unknown at none.
#[allow(clippy::cast_precision_loss, reason = "a time for people has few digits")]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn seconds(bytes: u64, rate: f64) -> Option<u64> {
    match bytes {
        0 => Some(0),
        _ => (rate >= 1.0).then(|| (bytes as f64 / rate).ceil() as u64),
    }
}

/// So many seconds, as exactly as is of use.
fn time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, minutes, _) => format!("{hours}:{minutes:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ipc_core::PeerId;

    const MIB: u64 = 1 << 20;

    fn peer(id: u32, done: u64, activity: Activity) -> PeerProgress {
        PeerProgress { id: PeerId(id), pid: 100 + id, done, activity, is_detached: false }
    }

    fn frame(peers: &[PeerProgress]) -> Frame<'_> {
        Frame { peers, each: Some(100 * MIB), rates: &[] }
    }

    #[test]
    fn each_peer_is_told_by_what_matters_most() {
        let idle = |seconds| Activity::Idle(Duration::from_secs(seconds));
        let detached = PeerProgress { is_detached: true, ..peer(5, 20 * MIB, Activity::Working) };
        let peers = [
            peer(0, 50 * MIB, Activity::Working),
            peer(1, 49 * MIB, idle(0)),
            peer(2, 40 * MIB, idle(0)),
            peer(3, 40 * MIB, idle(7)),
            peer(4, 90 * MIB, Activity::Failed),
            detached,
        ];
        let frame = frame(&peers);
        let told: Vec<_> = peers.iter().map(|peer| frame.tell(peer)).collect();
        assert_eq!(
            told,
            [
                "50.0 MiB",
                "49.0 MiB",
                "40.0 MiB, 10.0 MiB behind",
                "waiting 7 s for pid 103",
                "failed",
                "detached, 30.0 MiB behind",
            ]
        );
        assert_eq!(frame.tell_counts(), "6 peers, 1 failed, 1 detached, 1 waited for");
    }

    #[test]
    fn the_slowest_are_those_that_the_end_waits_for() {
        let peers = [
            peer(0, 100 * MIB, Activity::Stored),
            peer(1, 30 * MIB, Activity::Working),
            peer(2, 99 * MIB, Activity::Idle(Duration::from_secs(3))),
            peer(3, 10 * MIB, Activity::Failed),
            peer(4, 20 * MIB, Activity::Working),
        ];
        let frame = frame(&peers);
        let slowest = |most| frame.slowest(most).iter().map(|peer| peer.id.0).collect::<Vec<_>>();
        assert_eq!(slowest(2), [2, 4]);
        assert_eq!(slowest(3), [1, 2, 4]);
        assert_eq!(slowest(9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_total_leaves_out_who_has_failed() {
        let peers = [
            peer(0, 50 * MIB, Activity::Working),
            peer(1, 70 * MIB, Activity::Failed),
            // It was detached, and has stored some of it twice.
            peer(2, 130 * MIB, Activity::Working),
        ];
        let mut frame = frame(&peers);
        assert_eq!(frame.tell_total(80), "150.0 MiB");
        frame.rates = &[10.0 * MIB as f64, 30.0 * MIB as f64, 0.0];
        assert_eq!(frame.tell_total(80), "150.0 MiB, 10.0 MiB/s, 5 s left");
        assert_eq!(frame.tell_total(30), "150.0 MiB, 10.0 MiB/s");
        assert_eq!(frame.tell_total(5), "150.0 MiB");
        frame.each = None;
        assert_eq!(frame.tell_total(80), "180.0 MiB, 10.0 MiB/s");
    }

    #[test]
    fn the_time_left_is_what_the_slowest_peer_needs() {
        let left = |peers: &[PeerProgress], rates: &[f64]| {
            let rates: Vec<_> = rates.iter().map(|rate| rate * MIB as f64).collect();
            Frame { rates: &rates, ..frame(peers) }.seconds_left()
        };
        let working = |id, done| peer(id, done * MIB, Activity::Working);
        // Two have all bytes and one has a slow disk.
        let peers = [working(0, 100), peer(1, 100 * MIB, Activity::Stored), working(2, 10)];
        assert_eq!(left(&peers, &[0.0, 0.0, 2.0]), Some(45));
        // Whoever is behind need not be the last.
        assert_eq!(left(&[working(0, 10), working(1, 90)], &[90.0, 0.5]), Some(20));
        let detached = PeerProgress { is_detached: true, ..working(1, 40) };
        assert_eq!(left(&[working(0, 99), detached], &[50.0, 1.0]), Some(60));
        // One that does nothing may take any time, unless it has failed or there is nothing left to do.
        assert_eq!(left(&[working(0, 10), working(1, 90)], &[90.0, 0.0]), None);
        let idle = peer(1, 90 * MIB, Activity::Idle(Duration::from_secs(9)));
        assert_eq!(left(&[working(0, 10), idle], &[90.0, 0.0]), None);
        let failed = peer(1, 0, Activity::Failed);
        assert_eq!(left(&[working(0, 10), failed], &[90.0, 0.0]), Some(1));
        assert_eq!(left(&[working(0, 100), working(1, 100)], &[1.0, 1.0]), None);
        assert_eq!(left(&[], &[]), None);
    }

    #[test]
    fn a_stream_s_peers_may_claim_to_have_done_anything() {
        let peers = [peer(0, u64::MAX, Activity::Working), peer(1, 1, Activity::Working)];
        assert_eq!(Frame { peers: &peers, each: None, rates: &[] }.done_by_all(), u64::MAX);
    }

    #[test]
    fn times_are_as_exact_as_is_of_use() {
        for (seconds, told) in [(0, "0 s"), (59, "59 s"), (60, "1:00 min"), (7321, "2:02 h")] {
            assert_eq!(time(seconds), told);
        }
    }
}
