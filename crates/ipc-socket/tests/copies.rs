//! Whole runs: forked peers, strangers, deaths. It has no test harness, as that would run them on
//! threads, and a process with threads cannot fork peers.
//!
//! Who must be another process (a writer of the source, a stranger) is this program once more, with
//! its role as an argument.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::io::{PipeWriter, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_core::{
    Existing, FileName, Job, OnSlow, PeerCount, PeerId, Peers, Report, Served, ServerLink, Source,
    Transport, copy,
};
use ipc_socket::{Error, Options, SocketConnection, SocketTransport};
use rustix::process::{Pid, Signal, getpid, kill_process};

/// Small, so that small files are many windows.
const SMALL: Options = Options {
    chunk_bytes: 8192,
    chunks: 3,
    send_buffer_bytes: 16384,
    zero_copy: false,
    on_slow: OnSlow::Wait,
};

/// Whether files go directly from the page cache; every run is done both ways.
static ZERO_COPY: AtomicBool = AtomicBool::new(false);

/// More than pipe, window and connections hold of [`SMALL`], so that whoever has written it knows
/// that every peer has connected.
const HALF: usize = 1 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[1..] {
        ["write", length] => write(&contents(length.parse().unwrap())),
        ["trickle", length] => {
            contents(length.parse().unwrap()).iter().for_each(|byte| write(&[*byte]))
        }
        ["kill-one", victim] => between_halves(|| kill_peer(victim.parse().unwrap())),
        ["stranger", name] => between_halves(|| assert_eq!(read_as_stranger(name), b"")),
        // Whatever a test runner passes.
        _ => {
            for zero_copy in [true, false] {
                ZERO_COPY.store(zero_copy, Ordering::Relaxed);
                run_all();
            }
        }
    }
}

fn run_all() {
    files_of_all_sizes_arrive_whole();
    streams_of_all_sizes_arrive_whole();
    a_stream_in_single_bytes_arrives_whole();
    a_file_of_no_known_size_arrives_whole();
    a_stranger_gets_nothing_and_the_run_goes_on();
    a_peer_that_is_killed_in_mid_copy_harms_no_other();
    a_peer_that_never_connects_harms_no_other();
    a_peer_that_hangs_up_harms_no_other();
    a_peer_is_served_once();
    a_peer_commits_while_another_has_read_nothing();
    a_file_that_changes_is_stored_by_nobody();
    a_run_whose_peers_all_die_ends();
    many_peers_are_served();
}

fn files_of_all_sizes_arrive_whole() {
    for length in lengths() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents(length)).unwrap();
        for peers in [1, 2, 5] {
            let run = run(Source::open(file.path()).unwrap(), peers, as_it_is);
            run.assert_whole(length);
        }
    }
}

fn streams_of_all_sizes_arrive_whole() {
    for length in lengths() {
        let (source, writer) = stream();
        let mut helper = helper(&["write", &length.to_string()], writer);
        run(source, 2, as_it_is).assert_whole(length);
        assert!(helper.wait().unwrap().success());
    }
}

fn a_stream_in_single_bytes_arrives_whole() {
    let (source, writer) = stream();
    let mut helper = helper(&["trickle", "20000"], writer);
    run(source, 2, as_it_is).assert_whole(20000);
    assert!(helper.wait().unwrap().success());
}

fn a_file_of_no_known_size_arrives_whole() {
    let path = "/proc/version";
    let run = run(Source::open(path.as_ref()).unwrap(), 2, as_it_is);
    assert_eq!(run.copies(), vec![std::fs::read(path).unwrap(); 2]);
}

fn a_stranger_gets_nothing_and_the_run_goes_on() {
    let (source, writer) = stream();
    let (root, transport) = (tempfile::tempdir().unwrap(), transport());
    let name = String::from_utf8(transport.name().to_vec()).unwrap();
    let mut helper = helper(&["stranger", &name], writer);
    let run = run_in(root, transport, source, 2, as_it_is);
    run.assert_whole(2 * HALF);
    assert!(helper.wait().unwrap().success());
}

fn a_peer_that_is_killed_in_mid_copy_harms_no_other() {
    for victim in [0, 2] {
        let (source, writer) = stream();
        let mut helper = helper(&["kill-one", &victim.to_string()], writer);
        let run = run(source, 3, as_it_is);
        run.assert_one_failed(victim, "killed by SIGKILL");
        assert_eq!(run.copies(), vec![contents(2 * HALF); 2]);
        assert!(helper.wait().unwrap().success());
    }
}

fn a_peer_that_never_connects_harms_no_other() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents(HALF)).unwrap();
    let run = run(Source::open(file.path()).unwrap(), 3, |me, connect| {
        if me == PeerId(1) {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
        connect()
    });
    run.assert_one_failed(1, "killed by SIGKILL");
    assert_eq!(run.copies(), vec![contents(HALF); 2]);
}

fn a_peer_that_hangs_up_harms_no_other() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents(HALF)).unwrap();
    let run = run(Source::open(file.path()).unwrap(), 3, |me, connect| {
        let connection = connect()?;
        match me {
            PeerId(1) => Err(ipc_core::Error::ServerGone.into()),
            _ => Ok(connection),
        }
    });
    run.assert_one_failed(1, "the server ended before the copy was committed");
    assert_eq!(run.copies(), vec![contents(HALF); 2]);
}

fn a_peer_is_served_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents(HALF)).unwrap();
    let run = run(Source::open(file.path()).unwrap(), 2, |_, connect| {
        let first = connect()?;
        assert!(matches!(connect(), Err(Error::Core(ipc_core::Error::ServerGone))));
        Ok(first)
    });
    run.assert_whole(HALF);
}

fn a_peer_commits_while_another_has_read_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let length = SMALL.chunk_bytes * SMALL.chunks;
    std::fs::write(file.path(), contents(length)).unwrap();
    let root = tempfile::tempdir().unwrap();
    let other = root.path().join("1");
    let source = Source::open(file.path()).unwrap();
    let run = run_in(root, transport(), source, 2, |me, connect| {
        let connection = connect()?;
        while me == PeerId(0) && !other.exists() {
            std::thread::yield_now();
        }
        Ok(connection)
    });
    run.assert_whole(length);
}

fn a_file_that_changes_is_stored_by_nobody() {
    let changes: [fn(&std::fs::File); 3] = [
        |file| file.set_len(HALF as u64 / 2).unwrap(),
        |file| file.set_len(HALF as u64 * 2).unwrap(),
        |file| {
            // So that the change shows where the clock of files is coarse.
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        },
    ];
    for change in changes {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents(HALF)).unwrap();
        let run = run(Source::open(file.path()).unwrap(), 1, |_, connect| {
            change(&std::fs::OpenOptions::new().write(true).open(file.path()).unwrap());
            connect()
        });
        let aborted = run.report.aborted.as_ref().unwrap();
        assert!(aborted.message.contains("changed while it was copied"), "{aborted}");
        assert_eq!(std::fs::read_dir(run.root.path()).unwrap().count(), 0);
    }
}

fn a_run_whose_peers_all_die_ends() {
    // Nobody ever writes, and nobody closes it.
    let (source, _writer) = stream();
    let run = run(source, 3, |_, _| {
        kill_process(getpid(), Signal::KILL).unwrap();
        Err(ipc_core::Error::ServerGone.into())
    });
    assert_eq!(run.report.failed().count(), 3);
}

fn many_peers_are_served() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents(100)).unwrap();
    run(Source::open(file.path()).unwrap(), 200, as_it_is).assert_whole(100);
}

/// Around the sizes where something begins anew: a chunk, the window, the pieces that are stored.
fn lengths() -> impl Iterator<Item = usize> {
    let window = SMALL.chunk_bytes * SMALL.chunks;
    let around = |length: usize| [length - 1, length, length + 1];
    [1, SMALL.chunk_bytes, window, 256 * 1024].into_iter().flat_map(around).chain([5 * window + 17])
}

/// No two places in it look alike.
fn contents(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

/// A transport whose peers connect in a way of their own.
struct Hooked<C> {
    transport: SocketTransport,
    connect: C,
}

type Connect<'c> = &'c dyn Fn() -> Result<SocketConnection, Error>;

fn as_it_is(_: PeerId, connect: Connect<'_>) -> Result<SocketConnection, Error> {
    connect()
}

#[allow(unsafe_code, reason = "the trait says what a peer may use")]
// SAFETY: The peers of these tests use what the inner transport's do, and their memory.
unsafe impl<C> Transport for Hooked<C>
where
    C: Fn(PeerId, Connect<'_>) -> Result<SocketConnection, Error>,
{
    type Error = Error;
    type Connection<'t>
        = SocketConnection
    where
        C: 't;

    const DESCRIPTORS_PER_PEER: u64 = SocketTransport::DESCRIPTORS_PER_PEER;

    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<Served, Error> {
        self.transport.serve(source, peers)
    }

    fn connect<'t>(
        &'t self,
        me: PeerId,
        server: &'t ServerLink,
    ) -> Result<SocketConnection, Error> {
        (self.connect)(me, &|| self.transport.connect(me, server))
    }
}

/// A run that is over.
struct Run {
    report: Report,
    /// Keeps the copies.
    root: tempfile::TempDir,
}

fn run<C>(source: Source, peers: u32, connect: C) -> Run
where
    C: Fn(PeerId, Connect<'_>) -> Result<SocketConnection, Error>,
{
    run_in(tempfile::tempdir().unwrap(), transport(), source, peers, connect)
}

fn transport() -> SocketTransport {
    let options = Options { zero_copy: ZERO_COPY.load(Ordering::Relaxed), ..SMALL };
    SocketTransport::new(options).unwrap()
}

fn run_in<C>(
    root: tempfile::TempDir,
    transport: SocketTransport,
    source: Source,
    peers: u32,
    connect: C,
) -> Run
where
    C: Fn(PeerId, Connect<'_>) -> Result<SocketConnection, Error>,
{
    let job = Job {
        source,
        peers: PeerCount::new(peers).unwrap(),
        directories: root.path().to_str().unwrap().parse().unwrap(),
        name: "{peer}".parse().unwrap(),
        existing: Existing::Keep,
        sync: false,
        preserve: false,
        timeout: None,
    };
    let job = job.check::<Hooked<C>>().unwrap();
    let report = copy(&job, &Hooked { transport, connect }).unwrap();
    Run { report, root }
}

impl Run {
    fn copies(&self) -> Vec<Vec<u8>> {
        self.report.stored().map(|path| std::fs::read(path).unwrap()).collect()
    }

    fn assert_whole(&self, length: usize) {
        assert!(self.report.is_success(), "{length} bytes: {:?}", self.report);
        assert_eq!(self.report.bytes, Some(length as u64));
        let peers = self.report.peers.len();
        assert!(self.copies() == vec![contents(length); peers], "{length} bytes, {peers} peers");
    }

    fn assert_one_failed(&self, peer: u32, message: &str) {
        assert_eq!(self.report.aborted, None);
        let failed: Vec<_> = self.report.failed().collect();
        let [(report, failure)] = failed.as_slice() else { panic!("{:?}", self.report) };
        assert_eq!((report.id, failure.message.as_str()), (PeerId(peer), message));
        let names = std::fs::read_dir(self.root.path()).unwrap().count();
        assert_eq!(names, self.report.peers.len() - 1, "nothing is left of it");
    }
}

fn stream() -> (Source, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let source = Source::from_fd(reader.into(), FileName::new(b"stdin").unwrap()).unwrap();
    (source, writer)
}

/// Starts this program in another role, whose standard output is the source.
fn helper(role: &[&str], source: PipeWriter) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(role).stdout(Stdio::from(source)).spawn().unwrap()
}

fn write(bytes: &[u8]) {
    std::io::stdout().write_all(bytes).unwrap();
    std::io::stdout().flush().unwrap();
}

fn between_halves(act: impl FnOnce()) {
    let contents = contents(2 * HALF);
    write(&contents[..HALF]);
    act();
    write(&contents[HALF..]);
}

/// Kills a peer of the run that this process writes the source of.
fn kill_peer(number: usize) {
    let server = std::os::unix::process::parent_id();
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    let me = std::process::id().to_string();
    let peers: Vec<_> =
        children.as_ref().unwrap().split_whitespace().filter(|&pid| pid != me).collect();
    let pid = Pid::from_raw(peers[number].parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn read_as_stranger(name: &str) -> Vec<u8> {
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let mut received = Vec::new();
    UnixStream::connect_addr(&address).unwrap().read_to_end(&mut received).unwrap();
    received
}
