//! One file to many forked peers over `AF_UNIX` stream sockets.
//!
//! [`SocketTransport`] is a [`Transport`] for [`ipc_core::copy`]. The server listens under an
//! abstract name, accepts its own peers and nobody else, and serves all of them at once; each peer
//! connects and stores what arrives.
//!
//! # Protocol
//!
//! Nothing travels but from the server to the peer:
//!
//! ```text
//! +-----------------+--------+----------+--------+----------+     +---+
//! | header          | length | bytes    | length | bytes    | ... | 0 |
//! +-----------------+--------+----------+--------+----------+     +---+
//!   296 bytes         8        length     8        length           8
//! ```
//!
//! | part | bytes | contents |
//! | --- | --- | --- |
//! | header | [`FileHeader::ENCODED_LENGTH`](ipc_core::FileHeader::ENCODED_LENGTH) | what the source is: see there |
//! | frame | 8 and its length | the length, little-endian, from 1 to 0x7ffff000; then so many bytes of the source |
//! | end | 8 | a length of 0 |
//!
//! The server closes a connection once everything is sent. So a peer knows a file that has ended
//! from a server that has: a connection that closes before the end frame is
//! [`ServerGone`](ipc_core::Error::ServerGone).
//!
//! # How it works
//!
//! A regular file goes by `sendfile` from the page cache to each connection, at its own pace
//! (`direct.rs`), and by `splice` from there into the received file (`peer.rs`). Every other source is
//! read once, into a bounded window of chunks that all connections share (`buffered.rs`,
//! `window.rs`); a slow source holds nobody up, and a slow peer holds others up only once they are a
//! whole window ahead of it. Memory grows with the file in neither case. One epoll instance watches
//! the connections, the listener, the control channels and a source that is a stream (`server.rs`).
//!
//! The program must ignore `SIGPIPE`, as Rust programs do unless told otherwise: `sendfile` to a peer
//! that has died raises it.
//!
//! # Example
//!
//! ```standalone_crate
//! use ipc_core::{Existing, Job, PeerCount, Source, copy};
//! use ipc_socket::{Options, SocketTransport};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = tempfile::tempdir()?;
//! let path = root.path().join("greeting");
//! std::fs::write(&path, "hello")?;
//!
//! let source = Source::open(&path)?;
//! let transport = SocketTransport::new(Options::default())?;
//! let job = Job {
//!     source,
//!     peers: PeerCount::new(2).ok_or("not a number of peers")?,
//!     directories: root.path().join("received").into(),
//!     name: "{peer}-{name}".parse()?,
//!     existing: Existing::Replace,
//!     sync: false,
//!     preserve: false,
//!     timeout: None,
//! };
//! let job = job.check::<SocketTransport>()?;
//! let report = copy(&job, &transport)?;
//! assert!(report.is_success(), "{report:?}");
//! assert_eq!(std::fs::read(root.path().join("received/0-greeting"))?, b"hello");
//! assert_eq!(std::fs::read(root.path().join("received/1-greeting"))?, b"hello");
//! # Ok(())
//! # }
//! ```

mod buffered;
mod clients;
mod direct;
mod endpoint;
mod error;
mod feed;
#[cfg(fuzzing)]
pub mod fuzzing;
mod peer;
mod protocol;
mod server;
mod window;

use ipc_core::{OnSlow, PeerId, Peers, Served, ServerLink, Source, Transport};

pub use error::Error;
pub use peer::SocketConnection;

use endpoint::Endpoint;
use server::Server;

/// What a caller may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a source that does not go by `sendfile` that are read at once; less than 4096 is
    /// taken as 4096.
    pub chunk_bytes: usize,
    /// Chunks of such a source that are held in memory at once; 0 is taken as 1.
    pub chunks: usize,
    /// Bytes that the kernel is asked to queue for each connection. It may give less, and it is
    /// asked for less where all connections together would make it more than 64 MiB.
    pub send_buffer_bytes: usize,
    /// Whether regular files go from the page cache to the connections by `sendfile`, where the
    /// kernel can, instead of through chunks in memory.
    pub zero_copy: bool,
    /// What becomes of a peer that keeps the chunks in memory full while the others wait: it fails if
    /// it is to be dropped, else it is waited for. Files that go by `sendfile` wait for nobody.
    pub on_slow: OnSlow,
}

/// 4 chunks of 512 KiB and 1 MiB for each connection: less makes more system calls and wake-ups,
/// more falls out of the cache.
impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_bytes: 512 * 1024,
            chunks: 4,
            send_buffer_bytes: 1024 * 1024,
            zero_copy: true,
            on_slow: OnSlow::default(),
        }
    }
}

/// One file to many forked peers over `AF_UNIX` stream sockets.
#[derive(Debug)]
pub struct SocketTransport {
    options: Options,
    endpoint: Endpoint,
}

impl SocketTransport {
    /// Listens for the peers that will be forked.
    ///
    /// # Errors
    /// [`Error::Core`] if there can be no listening socket.
    pub fn new(options: Options) -> Result<Self, Error> {
        Ok(Self { options, endpoint: Endpoint::listen()? })
    }

    /// The abstract name that it listens under, without the NUL before it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.endpoint.name()
    }
}

#[allow(unsafe_code, reason = "the trait says what a peer may use")]
// SAFETY: A peer uses the address only, which is bytes, and the socket and the pipe that it opens.
unsafe impl Transport for SocketTransport {
    type Error = Error;
    type Connection<'t> = SocketConnection;

    const DESCRIPTORS_PER_PEER: u64 = 1;

    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<Served, Error> {
        Server::new(self, source, peers)?.run()
    }

    fn connect<'t>(&'t self, _: PeerId, _: &'t ServerLink) -> Result<SocketConnection, Error> {
        SocketConnection::open(&self.endpoint)
    }
}
