//! Transports that are used for what they were not made for, or twice, and a server that panics. It has
//! no test harness, as that would run tests on threads, and a process with threads cannot fork peers.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]
#![allow(unsafe_code, reason = "implements a transport")]

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;

use ipc_core::{
    Existing, FileName, Job, PeerCount, PeerId, Peers, Report, Served, ServerLink, Source,
    Transport, copy,
};
use ipc_shm::SharedMemory;
use ipc_socket::SocketTransport;
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

/// More than a ring or a window.
const SIZE: usize = 8 << 20;
/// What `ipc_shm::Error::NotForThis` says.
const NOT_FOR_THIS: &str = "the shared memory was not made for this copy";

fn main() {
    memory_serves_no_other_source();
    memory_serves_no_other_number_of_peers();
    memory_serves_one_copy();
    memory_serves_once();
    a_peer_joins_once();
    sockets_serve_twice_what_is_served();
    a_server_that_panics_leaves_nothing();
}

fn memory_serves_no_other_source() {
    let scene = Scene::new();
    let other = scene.file("other", &contents());
    let shorter = scene.file("shorter", &contents()[1..]);
    let renamed = scene.source().with_name(FileName::new(b"name").unwrap());
    for made_for in [other, shorter, renamed] {
        let memory = SharedMemory::create(&made_for, peers(3), ipc_shm::Options::default());
        scene.assert_refused(&memory.unwrap());
    }
}

fn memory_serves_no_other_number_of_peers() {
    let scene = Scene::new();
    for count in [1, 2, 4] {
        let options = ipc_shm::Options::default();
        let memory = SharedMemory::create(&scene.source(), peers(count), options);
        scene.assert_refused(&memory.unwrap());
    }
}

fn memory_serves_one_copy() {
    let scene = Scene::new();
    let memory = scene.memory();
    assert!(scene.copy(&memory).is_success());
    scene.assert_all_whole();
    let scene = Scene { received: tempfile::tempdir().unwrap(), ..scene };
    scene.assert_refused(&memory);
}

fn memory_serves_once() {
    let scene = Scene::new();
    let report = scene.copy(&Misused::new(scene.memory(), Misuse::ServeTwice));
    assert_eq!(report.aborted.as_ref().unwrap().message, NOT_FOR_THIS);
    scene.assert_stored_are_whole(&report);
}

fn a_peer_joins_once() {
    for misuse in [Misuse::JoinTwice, Misuse::JoinAsAnotherFirst] {
        let scene = Scene::new();
        let report = scene.copy(&Misused::new(scene.memory(), misuse));
        assert_eq!(report.aborted, None);
        let failed: Vec<_> = report.failed().map(|(peer, why)| (peer.id, &*why.message)).collect();
        assert_eq!(failed, [(PeerId(1), NOT_FOR_THIS)]);
        scene.assert_stored_are_whole(&report);
    }
}

/// There is nothing to be done the second time.
fn sockets_serve_twice_what_is_served() {
    let scene = Scene::new();
    let report = scene.copy(&Misused::new(sockets(), Misuse::ServeTwice));
    assert!(report.is_success(), "{report:?}");
    scene.assert_all_whole();
}

fn a_server_that_panics_leaves_nothing() {
    drop(take_hook());
    set_hook(Box::new(|_| {}));
    for misuse in [Misuse::PanicBefore, Misuse::PanicAfter] {
        let scene = Scene::new();
        scene.assert_unwinds(&Misused::new(scene.memory(), misuse));
        let scene = Scene::new();
        scene.assert_unwinds(&Misused::new(sockets(), misuse));
    }
    drop(take_hook());
}

fn sockets() -> SocketTransport {
    SocketTransport::new(ipc_socket::Options::default()).unwrap()
}

fn peers(count: u32) -> PeerCount {
    PeerCount::new(count).unwrap()
}

fn contents() -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(SIZE).collect()
}

/// A file, and where three peers store it.
struct Scene {
    sources: tempfile::TempDir,
    received: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (sources, received) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(sources.path().join("data"), contents()).unwrap();
        Self { sources, received }
    }

    /// Another file.
    fn file(&self, name: &str, contents: &[u8]) -> Source {
        let path = self.sources.path().join(name);
        std::fs::write(&path, contents).unwrap();
        Source::open(&path).unwrap()
    }

    fn source(&self) -> Source {
        Source::open(&self.sources.path().join("data")).unwrap()
    }

    fn memory(&self) -> SharedMemory {
        SharedMemory::create(&self.source(), peers(3), ipc_shm::Options::default()).unwrap()
    }

    fn copy<T: Transport>(&self, transport: &T) -> Report {
        let job = Job {
            source: self.source(),
            peers: peers(3),
            directories: self.received.path().to_str().unwrap().parse().unwrap(),
            name: "{peer}".parse().unwrap(),
            existing: Existing::Replace,
            sync: false,
            preserve: false,
            timeout: None,
        };
        copy(&job.check::<T>().unwrap(), transport).unwrap()
    }

    fn assert_refused(&self, memory: &SharedMemory) {
        assert_eq!(self.copy(memory).aborted.unwrap().message, NOT_FOR_THIS);
        assert_eq!(files(self.received.path()), 0);
    }

    fn assert_all_whole(&self) {
        assert_eq!(files(self.received.path()), 3);
        for peer in ["0", "1", "2"] {
            assert!(std::fs::read(self.received.path().join(peer)).unwrap() == contents());
        }
    }

    fn assert_stored_are_whole(&self, report: &Report) {
        let stored: Vec<_> = report.stored().collect();
        stored.iter().for_each(|path| assert!(std::fs::read(path).unwrap() == contents()));
        assert_eq!(files(self.received.path()), stored.len());
    }

    /// The panic goes on, and neither a process nor a part of a file is left.
    fn assert_unwinds<T: Transport>(&self, transport: &Misused<T>) {
        let copied = catch_unwind(AssertUnwindSafe(|| self.copy(transport)));
        assert_eq!(copied.unwrap_err().downcast_ref(), Some(&"a mistake"));
        assert_eq!(wait(WaitOptions::NOHANG).unwrap_err(), Errno::CHILD);
        for file in std::fs::read_dir(self.received.path()).unwrap() {
            assert!(std::fs::read(file.unwrap().path()).unwrap() == contents());
        }
    }
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misuse {
    ServeTwice,
    /// By peer 1.
    JoinTwice,
    /// The same.
    JoinAsAnotherFirst,
    PanicBefore,
    PanicAfter,
}

struct Misused<T> {
    transport: T,
    misuse: Misuse,
}

impl<T> Misused<T> {
    fn new(transport: T, misuse: Misuse) -> Self {
        Self { transport, misuse }
    }
}

// SAFETY: All that is called in a peer is the transport within.
unsafe impl<T: Transport> Transport for Misused<T> {
    type Error = T::Error;
    type Connection<'t>
        = T::Connection<'t>
    where
        T: 't;

    const DESCRIPTORS_PER_PEER: u64 = T::DESCRIPTORS_PER_PEER;

    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<Served, T::Error> {
        let panics_if = |misuse| assert!(self.misuse != misuse, "a mistake");
        panics_if(Misuse::PanicBefore);
        let served = self.transport.serve(source, peers)?;
        panics_if(Misuse::PanicAfter);
        match self.misuse {
            Misuse::ServeTwice => self.transport.serve(source, peers),
            _ => Ok(served),
        }
    }

    fn connect<'t>(
        &'t self,
        me: PeerId,
        server: &'t ServerLink,
    ) -> Result<T::Connection<'t>, T::Error> {
        match (me, self.misuse) {
            (PeerId(1), Misuse::JoinTwice) => drop(self.transport.connect(me, server)?),
            (PeerId(1), Misuse::JoinAsAnotherFirst) => {
                drop(self.transport.connect(PeerId(0), server)?);
            }
            _ => {}
        }
        self.transport.connect(me, server)
    }
}
