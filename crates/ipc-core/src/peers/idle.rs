//! What is told of peers while the run waits for them, and the end of a wait that is too long.

use std::time::Duration;

use crate::io::now;
use crate::watch::{Activity, Overdue, PeerProgress};
use crate::{Event, Failure, PeerId};

use super::stage::Stage;
use super::{Peer, Peers};

impl Peers<'_> {
    /// Tells of the peers that keep the run waiting, and gives up those that do so for too long.
    pub(super) fn look_after_the_idle(&mut self) {
        let now = now();
        if !self.watch.is_due(now) {
            return;
        }
        let mut told = 0;
        for id in self.ids() {
            let is_awaited = |peer: &&Peer| peer.link.is_some() && !peer.stage.waits_for_server();
            let Some(peer) = self.peers.get(id.index()).filter(is_awaited) else { continue };
            match self.watch.look_at(id, self.progress.of(id).get(), now) {
                Overdue::Tell if told < Event::MOST_AT_ONCE => {
                    told += 1;
                    (self.tell)(Event::Waiting { peer: id, pid: peer.child.id() });
                }
                Overdue::No | Overdue::Tell => {}
                Overdue::GiveUp(timeout) => self.fail(id, Failure::timed_out(timeout)),
            }
        }
        self.tell_progress();
    }

    fn tell_progress(&mut self) {
        let activity = |id, peer: &Peer| match (&peer.stage, self.watch.waited_for(id)) {
            (Stage::Stored, _) => Activity::Stored,
            (Stage::Failed(_) | Stage::Gone, _) => Activity::Failed,
            (_, Duration::ZERO) => Activity::Working,
            (_, waited) => Activity::Idle(waited),
        };
        let progress = |(id, peer): (PeerId, &Peer)| {
            let (done, activity) = (self.progress.of(id).get(), activity(id, peer));
            PeerProgress { id, pid: peer.child.id(), done, activity, is_detached: peer.is_detached }
        };
        let peers: Vec<_> = self.ids().zip(&self.peers).map(progress).collect();
        let map = self.source.map();
        let each = map.length().or(self.total).map(|length| match self.source.is_verified() {
            true => length + map.size_at(length),
            false => length,
        });
        (self.tell)(Event::Progress { peers: &peers, each });
    }
}
