//! What each peer is to the server while bytes flow: not yet there, connected, or done.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use ipc_core::{PeerId, Peers};

/// All peers of a run, by number and by process id.
#[derive(Debug)]
pub(crate) struct Clients {
    by_number: Vec<Stage>,
    by_pid: BTreeMap<u32, PeerId>,
    /// How many of them are not [`Stage::Done`].
    unserved: usize,
}

/// How far the server is with one peer.
#[derive(Debug, Default)]
pub(crate) enum Stage {
    /// It has not connected yet.
    #[default]
    Awaited,
    /// Bytes flow.
    Connected {
        socket: OwnedFd,
        /// Whether it may take more bytes.
        is_writable: bool,
    },
    /// It has been sent everything, or there is no more use in sending.
    Done,
}

impl Clients {
    pub(crate) fn new(peers: &Peers<'_>) -> Self {
        let by_number: Vec<_> = peers.ids().map(|_| Stage::default()).collect();
        let by_pid = peers.pids().map(|(id, pid)| (pid, id)).collect();
        Self { unserved: by_number.len(), by_number, by_pid }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(crate) fn any_unserved(&self) -> bool {
        self.unserved > 0
    }

    pub(crate) fn any_awaited(&self) -> bool {
        self.by_number.iter().any(|stage| matches!(stage, Stage::Awaited))
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> &mut Stage {
        &mut self.by_number[id.index()]
    }

    /// The peer that has this process id.
    pub(crate) fn find(&self, pid: u32) -> Option<PeerId> {
        self.by_pid.get(&pid).copied()
    }

    /// Makes a peer [`Stage::Done`], which closes its connection; says whether it was not.
    pub(crate) fn end(&mut self, id: PeerId) -> bool {
        let before = std::mem::replace(self.get_mut(id), Stage::Done);
        let was_unserved = !matches!(before, Stage::Done);
        self.unserved -= usize::from(was_unserved);
        was_unserved
    }
}
