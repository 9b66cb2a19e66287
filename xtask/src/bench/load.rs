//! How much is copied.

use std::fmt;

use serde::Serialize;

use super::units;

/// One file to so many peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    pub(crate) peers: usize,
    pub(crate) bytes: u64,
}

impl Load {
    /// Bytes that all copies have together.
    pub(crate) fn delivered(self) -> u64 {
        self.bytes * self.peers as u64
    }

    /// How many rounds it is worth if an ordinary load is worth so many: what takes milliseconds
    /// scatters most and costs nothing, what takes seconds is steady.
    pub(crate) fn rounds(self, ordinary: usize) -> usize {
        match self.delivered() {
            ..=0x10_0000 => 3 * ordinary,
            0x10_0001..=0x8000_0000 => ordinary,
            _ => ordinary.min(3),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = if self.peers == 1 { "peer" } else { "peers" };
        write!(f, "{} to {} {peers}", units::size(self.bytes), self.peers)
    }
}
