//! The server's side: read ahead into the ring, wait for the slowest peer, end.

use ipc_core::{Failure, PeerId, Peers, Source, SourceReader};

use crate::ring::{ImpossibleReads, Producer, Shared};
use crate::segment::Segment;
use crate::sync::Ordering;
use crate::{Error, Memory};

/// The ring is awaited and filled by quarters: one wake-up and one `pread` for all of its blocks.
/// Smaller pieces cost more calls and slower writes, larger ones leave server and peers less to do at
/// the same time.
const BATCHES_PER_RING: u32 = 4;

/// Moves the whole source through the ring.
pub(crate) fn serve(memory: &Memory, source: &Source, peers: &mut Peers<'_>) -> Result<(), Error> {
    let layout = memory.segment.layout();
    let is_new = memory.sequence_number().load(Ordering::Relaxed) == 0;
    if !is_new || peers.ids().count() != layout.peers as usize {
        return Err(Error::NotForThis);
    }
    let mut ring = Producer::new(memory, layout.peers, layout.block_count, layout.block_size);
    let batch = (layout.block_count / BATCHES_PER_RING).max(1);
    let mut reader = source.reader();
    while !reader.at_end() {
        if !wait_for_room(&mut ring, batch, peers)? {
            return Ok(());
        }
        if fill_blocks(&memory.segment, &mut ring, batch, &mut reader, peers)? {
            peers.source_ended(reader.offset());
            return Ok(());
        }
    }
    // The last block left no room for the one that ends the file.
    if wait_for_room(&mut ring, 1, peers)? {
        ring.reserve(1).publish(0, true);
    }
    peers.source_ended(reader.offset());
    Ok(())
}

/// Reads into free blocks and publishes them; says whether the file's end went with them.
fn fill_blocks(
    segment: &Segment,
    ring: &mut Producer<&Memory>,
    batch: u32,
    reader: &mut SourceReader<'_>,
    peers: &mut Peers<'_>,
) -> Result<bool, Error> {
    let mut blocks = ring.reserve(batch);
    let mut updated = Ok(());
    let bytes = reader.fill(segment.free_bytes(&mut blocks), || {
        updated = peers.update();
        updated.is_ok() && peers.any_receiving()
    })?;
    updated?;
    Ok(blocks.publish(bytes, reader.at_end()))
}

/// Waits until `blocks` blocks are free; says no once no peer receives any more.
fn wait_for_room(
    ring: &mut Producer<&Memory>,
    blocks: u32,
    peers: &mut Peers<'_>,
) -> Result<bool, Error> {
    loop {
        match ring.wait_for_room(blocks) {
            Ok(true) => return Ok(peers.any_receiving()),
            Ok(false) => peers.update()?,
            Err(ImpossibleReads { peer }) => {
                let message = "it claims to have read what was never written".to_owned();
                peers.fail(PeerId(peer), Failure { message, errno: None });
            }
        }
        let gone: Vec<_> = ring.live().filter(|&peer| !peers.is_receiving(PeerId(peer))).collect();
        gone.into_iter().for_each(|peer| ring.leave_out(peer));
    }
}
