//! Entry point for `fuzz/`, built by cargo-fuzz only: a server that sends what it likes.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use ipc_core::io::{retry, wait_ready};
use ipc_core::{Connection, Directory, Existing, FileHeader, FileName, ReceivedFile};
use rustix::event::PollFlags;
use rustix::net::SendFlags;

use crate::Error;
use crate::endpoint::{Accepted, Endpoint};
use crate::peer::SocketConnection;
use crate::protocol::{MAX_FRAME, PREFIX};

/// A server sends arbitrary bytes, in arbitrary pieces, and hangs up.
///
/// The peer stores exactly what is announced and sent as a whole, under the name that is announced; or
/// it fails, and nothing is stored. Beside that file there is nothing in the directory, nor above it.
pub fn wire(data: &[u8]) {
    let Some(wire) = Wire::new(data) else { return };
    let told = wire.told();
    let above = PathBuf::from(format!("/dev/shm/ipc-fuzz-{}", std::process::id()));
    let directory = above.join("received");
    fs::create_dir(&above).expect("nobody else has this process id");
    fs::create_dir(&directory).expect("it is in a new one");
    match (told, SERVER.send_to_peer(wire, &directory)) {
        (Some((name, contents)), Ok(())) => {
            let path = directory.join(&name);
            assert!(fs::read(&path).expect("it is there") == contents, "stored something else");
            fs::remove_file(&path).expect("it can be removed");
        }
        (None, Err(_)) => {}
        (Some(_), Err(error)) => panic!("all was sent, but {error}"),
        (None, Ok(())) => panic!("stored what was not announced or not sent"),
    }
    fs::remove_dir(&directory).expect("nothing else is in the directory");
    fs::remove_dir(&above).expect("nothing is beside the directory");
}

/// What is sent, in pieces of some length at most.
struct Wire {
    bytes: Vec<u8>,
    piece: usize,
}

/// The longest run of equal bytes in what is sent. With it a frame takes either way: through memory, or,
/// from 256 KiB on, through a pipe.
const LONGEST_RUN: u32 = 300 * 1024;

/// Pieces that a wire is sent in, at most; each costs time.
const MOST_PIECES: usize = 64;

impl Wire {
    /// `data` is the length of the pieces (2 bytes; 0 is all at once), what else is sent (1 byte), the
    /// length of a run of equal bytes (3) and its place in the rest (2), and the rest, which is sent as
    /// it is.
    fn new(data: &[u8]) -> Option<Self> {
        let (&[piece0, piece1, parts, run0, run1, run2, place0, place1], rest) =
            data.split_first_chunk()?;
        let (has_header, has_size, has_run) = (parts & 1 != 0, parts & 2 != 0, parts & 28 == 28);
        let run = u32::from_le_bytes([run0, run1, run2, 0]) % (LONGEST_RUN + 1);
        // It costs time, so few inputs have one.
        let run = if has_run { run } else { 0 };
        let place = usize::from(u16::from_le_bytes([place0, place1])) % (rest.len() + 1);
        let (before, behind) = rest.split_at(place);
        let mut bytes = Vec::new();
        if has_header {
            let size = has_size.then_some(run.into());
            let name = FileName::new(b"data.bin").expect("it is a name");
            let header = FileHeader::new(name, size, 0o644, (1, 2));
            bytes.extend(header.expect("it is a header").encode());
        }
        bytes.extend_from_slice(before);
        bytes.resize(bytes.len() + run as usize, 0);
        bytes.extend_from_slice(behind);
        let piece = match u16::from_le_bytes([piece0, piece1]) {
            0 => usize::MAX,
            piece => usize::from(piece).max(bytes.len().div_ceil(MOST_PIECES)),
        };
        Some(Self { bytes, piece })
    }

    /// The file that the bytes are, by the description of the protocol; `None` if they are none.
    fn told(&self) -> Option<(FileName, Vec<u8>)> {
        let (header, mut rest) = self.bytes.split_first_chunk()?;
        let header = FileHeader::decode(header).ok()?;
        let mut contents = Vec::new();
        loop {
            let (prefix, behind) = rest.split_first_chunk::<PREFIX>()?;
            let length = u64::from_le_bytes(*prefix);
            if length == 0 {
                let is_announced = header.size().is_none_or(|size| contents.len() as u64 <= size);
                return is_announced.then_some((header.name().clone(), contents));
            }
            let (frame, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
            assert!(length <= MAX_FRAME, "no frame so long is ever sent");
            contents.extend_from_slice(frame);
            rest = behind;
        }
    }
}

/// A thread with a real endpoint, which sends to each peer that connects what there is for it.
struct Server {
    endpoint: Arc<Endpoint>,
    next: Arc<Mutex<Option<Wire>>>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let endpoint = Arc::new(Endpoint::listen().expect("there are sockets"));
    let next = Arc::default();
    let (listening, given) = (Arc::clone(&endpoint), Arc::clone(&next));
    thread::spawn(move || serve(&listening, &given));
    Server { endpoint, next }
});

impl Server {
    /// A peer's life, less the control channel: the commit comes as soon as it has everything.
    fn send_to_peer(&self, wire: Wire, directory: &Path) -> Result<(), Error> {
        *self.next.lock().expect("the server lives") = Some(wire);
        let connection = SocketConnection::open(&self.endpoint)?;
        let header = connection.header().clone();
        let directory = Directory::open(directory)?;
        // A peer refuses each header but the source's. So no liar's size is ever reserved on the disk.
        let unknown = FileHeader::new(header.name().clone(), None, 0o644, (0, 0))?;
        let mut file = ReceivedFile::create(&directory, &unknown, FileName::new(b".hidden")?)?;
        connection.receive(&mut file)?;
        Ok(file.finish()?.commit(header.name(), Existing::Keep)?)
    }
}

fn serve(endpoint: &Endpoint, next: &Mutex<Option<Wire>>) {
    loop {
        wait_ready(endpoint, PollFlags::IN, None).expect("it can be waited for");
        match endpoint.accept().expect("peers can be accepted") {
            Accepted::Process { socket, .. } => {
                let wire = next.lock().expect("the peer lives").take();
                send(&socket, &wire.expect("each peer has one"));
            }
            Accepted::Nobody => {}
            refused => panic!("{refused:?}"),
        }
    }
}

/// Sends all pieces, as long as the peer takes them.
fn send(socket: &OwnedFd, wire: &Wire) {
    for piece in wire.bytes.chunks(wire.piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let sent = retry(socket, PollFlags::OUT, || {
                rustix::net::send(socket, rest, SendFlags::NOSIGNAL)
            });
            // A peer that refuses what it gets hangs up.
            let Ok(bytes) = sent else { return };
            rest = &rest[bytes..];
        }
    }
}
