//! What can go wrong on the way through a socket.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What goes wrong alike on every way: a system call, the source, a server that is gone.
    #[error(transparent)]
    Core(#[from] ipc_core::Error),
    /// The server announced a frame that the protocol does not allow.
    #[error("received a frame of {length} bytes, {limit} are allowed")]
    FrameTooLong {
        /// The frame's length, in bytes.
        length: u64,
        /// The longest allowed, in bytes.
        limit: u64,
    },
    /// The frames hold more than the header said.
    #[error("received {received} bytes of a file that was announced with {announced}")]
    TooMuch {
        /// Bytes in all frames so far, the refused one included.
        received: u64,
        /// Bytes in the header.
        announced: u64,
    },
}
