//! Peers that panic, lie, or are misled by a transport, over both transports. It has no test harness,
//! as that would run tests on threads, and a process with threads cannot fork peers.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]
#![allow(unsafe_code, reason = "implements the trait that says what a peer may use")]

use std::path::PathBuf;

use ipc_core::{
    Connection, Existing, FileHeader, FileName, Job, PeerCount, PeerId, Peers, Received,
    ReceivedFile, Report, Served, ServerLink, Source, Transport, copy,
};
use ipc_shm::SharedMemory;
use ipc_socket::SocketTransport;

/// More than a ring or a window, so that the others wait for the peer that panics.
const SIZE: usize = 8 << 20;
/// The peer that something happens to, of three.
const ODD: PeerId = PeerId(1);

/// What happens in a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// It panics before it has connected.
    PanicAtFirst,
    /// It panics when it is to receive.
    PanicBefore,
    /// It panics when it has received everything.
    PanicAfter,
    /// It is told the header of another file, whose name leads elsewhere as far as a name can.
    OtherName,
    /// It is told another size.
    OtherSize,
    /// It says that it has everything when it has connected.
    ClaimsEverything,
}

const MISHAPS: [(Mishap, &str); 6] = [
    (Mishap::PanicAtFirst, ": at first"),
    (Mishap::PanicBefore, "it panicked at crates/ipc-cli/tests/panics.rs"),
    (Mishap::PanicAfter, ": after"),
    (Mishap::OtherName, "received an invalid header: it is not that of the source"),
    (Mishap::OtherSize, "received an invalid header: it is not that of the source"),
    // It is heard before the end of the source, or, where that is known from the start, as it is not true.
    (Mishap::ClaimsEverything, "out of turn, or it stored 0 bytes of 8388608"),
];

fn main() {
    for (mishap, why) in MISHAPS {
        one_peer_s_mishap_is_its_own(mishap, why, socket);
        one_peer_s_mishap_is_its_own(mishap, why, shared_memory);
    }
}

fn socket(_: &Job) -> SocketTransport {
    SocketTransport::new(ipc_socket::Options::default()).unwrap()
}

fn shared_memory(job: &Job) -> SharedMemory {
    let options = ipc_shm::Options::default();
    SharedMemory::create(&job.source, job.peers, options).unwrap()
}

fn one_peer_s_mishap_is_its_own<T: Transport>(
    mishap: Mishap,
    why: &str,
    transport: impl FnOnce(&Job) -> T,
) {
    let contents: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(SIZE).collect();
    let (root, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), &contents).unwrap();
    let job = Job {
        source: Source::open(file.path()).unwrap(),
        peers: PeerCount::new(3).unwrap(),
        directories: root.path().to_str().unwrap().parse().unwrap(),
        name: "{peer}".parse().unwrap(),
        existing: Existing::Keep,
        sync: false,
        preserve: false,
        timeout: None,
    };
    let job = job.check::<Odd<T>>().unwrap();
    let transport = Odd { transport: transport(&job), mishap };
    let dropped = tempfile::tempdir().unwrap();
    let report = {
        let _guard = Guard(dropped.path().to_owned());
        copy(&job, &transport).unwrap()
    };
    assert_others_are_whole(&report, why, &contents);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "{mishap:?}");
    // By this process, and by no peer's unwinding.
    let droppers: Vec<_> = std::fs::read_dir(dropped.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(droppers, [std::process::id().to_string()], "{mishap:?}");
}

fn assert_others_are_whole(report: &Report, why: &str, contents: &[u8]) {
    assert_eq!(report.aborted, None);
    let failed: Vec<_> = report.failed().map(|(peer, why)| (peer.id, &*why.message)).collect();
    let [(ODD, message)] = failed[..] else { panic!("{failed:?}") };
    assert!(why.split(", or ").any(|why| message.contains(why)), "{message}");
    let stored: Vec<_> = report.stored().collect();
    assert_eq!(stored.len(), 2);
    stored.iter().for_each(|path| assert!(std::fs::read(path).unwrap() == contents, "{path:?}"));
}

/// A value of the server's that does something when it is dropped.
struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        std::fs::write(self.0.join(std::process::id().to_string()), "").unwrap();
    }
}

/// A transport in one of whose peers something happens.
struct Odd<T> {
    transport: T,
    mishap: Mishap,
}

struct OddConnection<C> {
    connection: C,
    header: FileHeader,
    mishap: Option<Mishap>,
}

// SAFETY: The peers of these tests use what the inner transport's do, and their memory.
unsafe impl<T: Transport> Transport for Odd<T> {
    type Error = T::Error;
    type Connection<'t>
        = OddConnection<T::Connection<'t>>
    where
        T: 't;

    const DESCRIPTORS_PER_PEER: u64 = T::DESCRIPTORS_PER_PEER;

    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<Served, T::Error> {
        self.transport.serve(source, peers)
    }

    fn connect<'t>(
        &'t self,
        me: PeerId,
        server: &'t ServerLink,
    ) -> Result<Self::Connection<'t>, T::Error> {
        let mishap = (me == ODD).then_some(self.mishap);
        if mishap == Some(Mishap::PanicAtFirst) {
            panic!("at first");
        }
        let connection = self.transport.connect(me, server)?;
        let mut header = connection.header().clone();
        match mishap {
            Some(Mishap::OtherName) => {
                header = header.with_name(FileName::new(b"..data").unwrap());
            }
            Some(Mishap::OtherSize) => {
                let (name, size) = (header.name().clone(), Some(i64::MAX as u64));
                header = FileHeader::new(name, size, header.mode(), header.modified()).unwrap();
            }
            _ => {}
        }
        Ok(OddConnection { connection, header, mishap })
    }
}

impl<C: Connection> Connection for OddConnection<C> {
    type Error = C::Error;

    fn header(&self) -> &FileHeader {
        &self.header
    }

    fn receive(self, file: &mut ReceivedFile<'_>) -> Result<Received, C::Error> {
        match self.mishap {
            Some(Mishap::PanicBefore) => panic!("before"),
            Some(Mishap::ClaimsEverything) => return Ok(Received::Everything),
            _ => {}
        }
        let received = self.connection.receive(file)?;
        if self.mishap == Some(Mishap::PanicAfter) {
            panic!("after");
        }
        Ok(received)
    }
}
