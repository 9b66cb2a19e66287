//! The server's side: read ahead into the ring, wait for the slowest peer, end.

use std::time::Duration;

use ipc_core::io::now;
use ipc_core::{Failure, OnSlow, Patience, PeerId, Peers, Served, Source, SourceReader};

use crate::ring::{Delay, ImpossibleReads, Producer};
use crate::{Error, Memory};

/// The ring is awaited and filled by quarters: one wake-up and one `pread` for all of its blocks.
/// Smaller pieces cost more calls and slower writes, larger ones leave server and peers less to do at
/// the same time.
const BATCHES_PER_RING: u32 = 4;

/// Moves the whole source through the ring.
pub(crate) fn serve(
    memory: &Memory,
    on_slow: OnSlow,
    source: &Source,
    peers: &mut Peers<'_>,
) -> Result<Served, Error> {
    let layout = memory.segment.layout();
    let is_for_source = memory.segment.file_header()? == *source.header();
    if !is_for_source || peers.ids().count() != layout.peers as usize {
        return Err(Error::NotForThis);
    }
    let mut ring = Producer::new(memory, layout.peers, layout.block_count, layout.block_size);
    let on_slow = on_slow.for_source(source);
    if on_slow != OnSlow::Wait {
        ring.watch();
    }
    let patience = Patience::new(on_slow, now());
    Server { memory, ring, source, peers, on_slow, patience, awaited: Vec::new() }.run()
}

/// One run, from the first block to the last.
struct Server<'a, 's> {
    memory: &'a Memory,
    ring: Producer<&'a Memory>,
    source: &'a Source,
    peers: &'a mut Peers<'s>,
    on_slow: OnSlow,
    patience: Patience,
    /// Whom the server waited for last, in the order of their numbers.
    awaited: Vec<u32>,
}

impl Server<'_, '_> {
    fn run(mut self) -> Result<Served, Error> {
        let batch = (self.memory.segment.layout().block_count / BATCHES_PER_RING).max(1);
        let mut reader = self.source.reader();
        let mut ended = false;
        while !ended {
            // The last block may have left no room for the one that ends the file.
            let needed = if reader.at_end() { 1 } else { batch };
            if !self.wait_for_room(needed)? {
                self.ring.wake_detached();
                break;
            }
            ended = self.fill_blocks(batch, &mut reader)?;
        }
        Ok(match reader.at_end() {
            true => Served::Everything { bytes: reader.position(), digest: reader.digest() },
            false => Served::NoReceivers,
        })
    }

    /// Waits until `blocks` blocks are free; says no once the ring serves nobody any more.
    fn wait_for_room(&mut self, blocks: u32) -> Result<bool, Error> {
        loop {
            let has_room = match self.ring.wait_for_room(blocks) {
                Ok(has_room) => has_room,
                Err(ImpossibleReads { peer }) => {
                    let message = "it claims to have read what was never written".to_owned();
                    self.peers.fail(PeerId(peer), Failure { message, errno: None });
                    false
                }
            };
            if !has_room {
                // Whoever has failed is not slow as well.
                self.peers.update();
            }
            let is_gone = |&peer: &u32| !self.peers.is_receiving(PeerId(peer));
            let gone: Vec<_> = self.ring.live().filter(is_gone).collect();
            gone.into_iter().for_each(|peer| self.ring.leave_out(peer));
            self.note_awaited(if has_room { 0 } else { blocks });
            if let Some(delay) = self.ring.take_delay() {
                self.judge(delay);
            }
            if self.ring.live().next().is_none() {
                return Ok(false);
            }
            if has_room {
                return Ok(true);
            }
        }
    }

    /// Tells who is waited for while there is no room for `blocks` blocks.
    fn note_awaited(&mut self, blocks: u32) {
        let before = std::mem::take(&mut self.awaited);
        if blocks > 0 {
            self.awaited = self.ring.holding_up(blocks).collect();
        }
        let ended = before.into_iter().filter(|peer| self.awaited.binary_search(peer).is_err());
        ended.for_each(|peer| self.peers.set_awaited(PeerId(peer), false));
        self.awaited.iter().for_each(|&peer| self.peers.set_awaited(PeerId(peer), true));
    }

    /// Ends the wait for a peer that has held the others up for too long.
    fn judge(&mut self, delay: Delay) {
        let Delay { peer, from, to } = delay;
        let (from, to) = (Duration::from_nanos(from), Duration::from_nanos(to));
        if !self.patience.ends(from, to) || !self.ring.live().any(|live| live == peer) {
            return;
        }
        match self.on_slow {
            OnSlow::Wait => {}
            OnSlow::Detach => {
                self.ring.detach(peer);
                self.peers.detach(PeerId(peer));
            }
            OnSlow::Drop => {
                self.peers.fail(PeerId(peer), Failure::slow());
                self.ring.leave_out(peer);
            }
        }
    }

    /// Reads into free blocks and publishes them; says whether the file's end went with them.
    fn fill_blocks(&mut self, most: u32, reader: &mut SourceReader<'_>) -> Result<bool, Error> {
        let blocks = self.ring.reserve(most);
        let bytes = reader.fill_shared(self.memory.segment.free_bytes(&blocks), || {
            self.peers.update();
            self.peers.any_receiving()
        })?;
        Ok(blocks.publish(bytes, reader.at_end()))
    }
}
