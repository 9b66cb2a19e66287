//! Peers that the run waits for and that do nothing: when somebody is told, and when it ends.

use std::time::Duration;

use crate::PeerId;
use crate::io::SLICE;

/// Something that a person may want to hear of while a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'e> {
    /// The run waits for a peer that has done nothing for [`Event::PATIENCE`].
    Waiting {
        /// Its number.
        peer: PeerId,
        /// Its process id.
        pid: u32,
    },
    /// What failed peers have left takes long to remove: a file system does not answer, say. The run ends all
    /// the same.
    CleanUpUnfinished {
        /// The process that goes on with it.
        pid: u32,
    },
    /// How far all peers have come; told about once in a [`SLICE`].
    Progress {
        /// All of them, by number.
        peers: &'e [PeerProgress],
        /// Bytes that each has to do: to store, and to read back if that is wanted. `None` before the
        /// end of a stream.
        each: Option<u64>,
    },
}

/// How far one peer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    /// Its number.
    pub id: PeerId,
    /// Its process id.
    pub pid: u32,
    /// Bytes that it says it has stored or read back.
    pub done: u64,
    /// What it is doing.
    pub activity: Activity,
    /// Whether it held the others up, and reads the rest of the source by itself.
    pub is_detached: bool,
}

/// What a peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It receives, reads back, or waits for the others.
    Working,
    /// The run has waited for it for so long, in which it did nothing.
    Idle(Duration),
    /// Its received file has its final name.
    Stored,
    /// It has failed.
    Failed,
}

impl Event<'_> {
    /// How long a peer does nothing before that is told.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// How many peers are told of at the same time, at most: if a disk is slow, all of them wait for it.
    pub const MOST_AT_ONCE: usize = 8;
}

/// How long each peer has kept the run waiting.
#[derive(Debug)]
pub(crate) struct Watch {
    /// After so long a peer is given up.
    timeout: Option<Duration>,
    peers: Vec<Awaited>,
    /// When it was looked last.
    last_look: Duration,
}

#[derive(Debug, Default)]
struct Awaited {
    /// Whether the run waits for it.
    is_awaited: bool,
    /// What it had done when it was last seen to do something, and when that was.
    since: Option<(u64, Duration)>,
    is_told: bool,
}

/// What is to be done about a peer that does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing so far.
    No,
    /// Somebody is to be told.
    Tell,
    /// It is to be given up, after so long.
    GiveUp(Duration),
}

impl Watch {
    /// A watch on `peers` peers, at the time `now`, none of which is waited for.
    pub(crate) fn new(peers: usize, timeout: Option<Duration>, now: Duration) -> Self {
        let peers = (0..peers).map(|_| Awaited::default()).collect();
        Self { timeout, peers, last_look: now }
    }

    /// Notes whether the run waits for a peer.
    pub(crate) fn set_awaited(&mut self, peer: PeerId, is_awaited: bool) {
        if let Some(awaited) = self.peers.get_mut(peer.index()) {
            awaited.is_awaited = is_awaited;
            if !is_awaited {
                awaited.since = None;
            }
        }
    }

    /// Begins anew to count the time in which a peer does nothing: it has been given something to do.
    pub(crate) fn begin_anew(&mut self, peer: PeerId) {
        if let Some(awaited) = self.peers.get_mut(peer.index()) {
            (awaited.since, awaited.is_told) = (None, false);
        }
    }

    /// Notes that the run waits for all peers.
    pub(crate) fn await_all(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.is_awaited = true);
    }

    /// Whether it is time for a look at all peers. Time in which this process itself did not run counts
    /// for nobody.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last_look);
        if passed < SLICE {
            return false;
        }
        self.last_look = now;
        let absent = passed.saturating_sub(4 * SLICE);
        for (_, since) in self.peers.iter_mut().filter_map(|peer| peer.since.as_mut()) {
            *since = since.saturating_add(absent);
        }
        true
    }

    /// What is to be done about a peer that has `done` so much by `now`.
    pub(crate) fn look_at(&mut self, peer: PeerId, done: u64, now: Duration) -> Overdue {
        let Some(peer) = self.peers.get_mut(peer.index()).filter(|peer| peer.is_awaited) else {
            return Overdue::No;
        };
        let (before, since) = *peer.since.get_or_insert((done, now));
        if before != done {
            peer.since = Some((done, now));
            peer.is_told = false;
            return Overdue::No;
        }
        let waited = now.saturating_sub(since);
        match self.timeout {
            Some(timeout) if waited >= timeout => Overdue::GiveUp(timeout),
            _ if waited >= Event::PATIENCE && !peer.is_told => {
                peer.is_told = true;
                Overdue::Tell
            }
            _ => Overdue::No,
        }
    }

    /// How long the run has waited for a peer that did nothing, by the last look at it.
    pub(crate) fn waited_for(&self, peer: PeerId) -> Duration {
        let since = self.peers.get(peer.index()).and_then(|peer| peer.since);
        since.map_or(Duration::ZERO, |(_, since)| self.last_look.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId(1);

    /// What is done about a peer at each tenth of a second, counted from 0, as `done` has it.
    fn overdue(timeout: Option<u64>, done: impl Fn(u64) -> u64) -> Vec<(u64, Overdue)> {
        let at = |tenth: u64| Duration::from_secs(1000) + Duration::from_millis(100 * tenth);
        let mut watch = Watch::new(3, timeout.map(Duration::from_secs), at(0));
        watch.set_awaited(PEER, true);
        let look = |tenth| {
            assert!(watch.is_due(at(tenth + 1)));
            (tenth, watch.look_at(PEER, done(tenth), at(tenth + 1)))
        };
        (0..200).map(look).filter(|&(_, overdue)| overdue != Overdue::No).collect()
    }

    #[test]
    fn who_does_nothing_is_told_of_once_and_given_up_if_that_is_wanted() {
        let limit = Duration::from_secs(12);
        assert_eq!(overdue(None, |_| 7), [(50, Overdue::Tell)]);
        let told = overdue(Some(12), |_| 7);
        assert_eq!(told[..2], [(50, Overdue::Tell), (120, Overdue::GiveUp(limit))]);
        assert_eq!(overdue(Some(3), |_| 7)[0], (30, Overdue::GiveUp(Duration::from_secs(3))));
    }

    #[test]
    fn who_does_something_now_and_then_is_waited_for() {
        assert_eq!(overdue(Some(5), |tenth| tenth / 49), []);
        let twice = [(50, Overdue::Tell), (150, Overdue::Tell)];
        assert_eq!(overdue(None, |tenth| tenth / 100), twice);
    }

    #[test]
    fn nobody_is_overdue_whom_the_run_does_not_wait_for() {
        let mut watch = Watch::new(3, Some(SLICE), Duration::ZERO);
        for second in 1..100 {
            let now = Duration::from_secs(second);
            assert!(watch.is_due(now));
            assert_eq!(watch.look_at(PEER, 0, now), Overdue::No);
        }
    }

    #[test]
    fn the_servers_own_absence_is_nobodys_fault() {
        let mut watch = Watch::new(3, Some(Duration::from_secs(1)), Duration::ZERO);
        watch.set_awaited(PEER, true);
        for hour in 1..10 {
            let now = Duration::from_secs(3600 * hour);
            assert!(watch.is_due(now));
            assert_eq!(watch.look_at(PEER, 0, now), Overdue::No, "{hour}");
            watch.set_awaited(PEER, hour % 2 == 0);
            watch.set_awaited(PEER, true);
        }
    }
}
