//! A peer's side: take all blocks that are ready, store them with one write, give them back.

use ipc_core::{Connection, FileHeader, PeerId, Received, ReceivedFile, ServerLink};

use crate::ring::{Consumer, Ready};
use crate::{Error, Memory};

/// A peer's end of the ring.
#[derive(Debug)]
pub struct Attached<'t> {
    memory: &'t Memory,
    me: PeerId,
    server: &'t ServerLink,
    header: FileHeader,
}

impl<'t> Attached<'t> {
    pub(crate) fn new(
        memory: &'t Memory,
        me: PeerId,
        server: &'t ServerLink,
    ) -> Result<Self, Error> {
        if me.0 >= memory.segment.layout().peers {
            return Err(Error::NotForThis);
        }
        memory.segment.restrict_to(me);
        memory.semaphore.restrict();
        let header = memory.segment.file_header()?;
        Ok(Self { memory, me, server, header })
    }
}

impl Connection for Attached<'_> {
    type Error = Error;

    fn header(&self) -> &FileHeader {
        &self.header
    }

    fn receive(self, file: &mut ReceivedFile<'_>) -> Result<Received, Error> {
        let segment = &self.memory.segment;
        let layout = segment.layout();
        let mut ring = Consumer::new(self.memory, self.me.0, layout.block_count, layout.block_size);
        loop {
            match ring.ready().map_err(|_| Error::Corrupt)? {
                Ready::Blocks(blocks) => {
                    let before = file.length();
                    file.write_all_shared(segment.ready_bytes(&blocks))?;
                    if !blocks.release() {
                        file.take_back(before);
                    }
                }
                Ready::End => return Ok(Received::Everything),
                Ready::Detached => return Ok(Received::Part),
                Ready::Nothing => {
                    ring.sleep();
                    if !self.server.server_lives()? {
                        return Err(ipc_core::Error::ServerGone.into());
                    }
                }
            }
        }
    }
}
