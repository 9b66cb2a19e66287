//! What a transport may do wrong without a run that hangs, and what a program may have that is not to run in a
//! peer. It has no test harness, as that would run tests on threads, and a process with threads cannot
//! fork peers.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]
#![allow(unsafe_code, reason = "implements transports, and has a signal handler")]

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicI32, Ordering};

use ipc_core::{
    Connection, Error, Existing, FileHeader, FileName, Job, PeerCount, PeerId, Peers, Received,
    ReceivedFile, Report, Served, ServerLink, Source, Transport, copy,
};

const CONTENTS: &[u8] = b"contents";

fn main() {
    a_transport_that_ends_too_early_ends_the_run();
    a_claim_before_the_end_of_a_stream_is_out_of_turn();
    a_panic_hook_of_the_program_does_not_run_in_a_peer();
    a_signal_handler_of_the_program_does_not_run_in_a_peer();
}

/// A transport of nothing: its peers do as they are told.
struct Idle<S, R> {
    header: FileHeader,
    serve: S,
    receive: R,
}

struct IdleConnection<'t, R> {
    header: &'t FileHeader,
    receive: &'t R,
}

/// What a peer waits for that is never sent.
fn wait_for_ever(_: &mut ReceivedFile<'_>) -> Received {
    loop {
        std::thread::park();
    }
}

fn claim_everything(_: &mut ReceivedFile<'_>) -> Received {
    Received::Everything
}

// SAFETY: The peers use the received file only, but for those whose case is about what happens then.
unsafe impl<S, R> Transport for Idle<S, R>
where
    S: Fn(&mut Peers<'_>) -> Result<Served, Error>,
    R: Fn(&mut ReceivedFile<'_>) -> Received,
{
    type Error = Error;
    type Connection<'t>
        = IdleConnection<'t, R>
    where
        Self: 't;

    const DESCRIPTORS_PER_PEER: u64 = 0;

    fn serve(&self, _: &Source, peers: &mut Peers<'_>) -> Result<Served, Error> {
        (self.serve)(peers)
    }

    fn connect<'t>(&'t self, _: PeerId, _: &'t ServerLink) -> Result<IdleConnection<'t, R>, Error> {
        Ok(IdleConnection { header: &self.header, receive: &self.receive })
    }
}

impl<R: Fn(&mut ReceivedFile<'_>) -> Received> Connection for IdleConnection<'_, R> {
    type Error = Error;

    fn header(&self) -> &FileHeader {
        self.header
    }

    fn receive(self, file: &mut ReceivedFile<'_>) -> Result<Received, Error> {
        Ok((self.receive)(file))
    }
}

/// A run to two peers; gives what was stored as well.
fn run<S, R>(source: Source, serve: S, receive: R) -> (Report, Vec<Vec<u8>>)
where
    S: Fn(&mut Peers<'_>) -> Result<Served, Error>,
    R: Fn(&mut ReceivedFile<'_>) -> Received,
{
    let root = tempfile::tempdir().unwrap();
    let transport = Idle { header: source.header().clone(), serve, receive };
    let job = Job {
        source,
        peers: PeerCount::new(2).unwrap(),
        directories: root.path().to_path_buf().into(),
        name: "{peer}".parse().unwrap(),
        existing: Existing::Keep,
        sync: false,
        preserve: false,
        timeout: None,
    };
    let report = copy(&job.check().unwrap(), &transport).unwrap();
    let stored = report.stored().map(|path| std::fs::read(path).unwrap()).collect();
    (report, stored)
}

fn file() -> Source {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CONTENTS).unwrap();
    Source::open(file.path()).unwrap()
}

/// A stream that does not end while this test runs.
fn stream() -> Source {
    let (reader, writer) = std::io::pipe().unwrap();
    std::mem::forget(writer);
    Source::from_fd(reader.into(), FileName::new(b"stream").unwrap()).unwrap()
}

fn everything(bytes: u64) -> Result<Served, Error> {
    Ok(Served::Everything { bytes, digest: None })
}

fn fails(report: &Report, why: &str) {
    let failed: Vec<_> = report.failed().map(|(_, failure)| &*failure.message).collect();
    assert_eq!(failed, [why, why], "{report:?}");
}

fn a_transport_that_ends_too_early_ends_the_run() {
    const EARLY: &str = "the transport ended before it had sent everything";
    for source in [file, stream] {
        let (report, _) = run(source(), |_| Ok(Served::NoReceivers), wait_for_ever);
        fails(&report, EARLY);
        let (report, _) = run(source(), |_| Ok(Served::NoReceivers), |_| panic!("as well"));
        assert_eq!(report.failed().count(), 2);
        let (report, _) = run(source(), |_| Err(Error::SamePath), wait_for_ever);
        fails(&report, &Error::SamePath.to_string());
        let contradict = |peers: &mut Peers<'_>| {
            peers.source_ended(7, None);
            everything(8)
        };
        let (report, _) = run(source(), contradict, wait_for_ever);
        fails(&report, "the transport sent 7 bytes and then 8");
        assert!(report.aborted.is_some());
    }
    // Nothing was sent, so it is true of no peer.
    let (report, _) = run(file(), |_| everything(8), claim_everything);
    fails(&report, "it stored 0 bytes of 8");
}

fn a_claim_before_the_end_of_a_stream_is_out_of_turn() {
    let wait_for_claims = |peers: &mut Peers<'_>| {
        while peers.any_receiving() {
            peers.update();
        }
        Ok(Served::NoReceivers)
    };
    for source in [file, stream] {
        let (report, _) = run(source(), wait_for_claims, claim_everything);
        fails(&report, "received an invalid control message: it is out of turn");
    }
}

/// Open files under all numbers that a peer's could get.
fn logs(log: &File) -> Vec<File> {
    (0..64).map(|_| log.try_clone().unwrap()).collect()
}

fn store(file: &mut ReceivedFile<'_>) {
    file.write_all(CONTENTS).unwrap();
}

fn a_panic_hook_of_the_program_does_not_run_in_a_peer() {
    let mut log = tempfile::tempfile().unwrap();
    let logs = logs(&log);
    let before = take_hook();
    set_hook(Box::new(move |_| {
        for mut log in &logs {
            let _ = log.write_all(b"LOG");
        }
    }));
    let panic_once = |file: &mut ReceivedFile<'_>| {
        catch_unwind(|| panic!("it is caught")).unwrap_err();
        store(file);
        Received::Everything
    };
    let (report, stored) = run(file(), |_| everything(8), panic_once);
    // The hook is still that of the server, and has its files.
    assert_eq!(log.stream_position().unwrap(), 0);
    catch_unwind(|| panic!("in the server")).unwrap_err();
    assert_eq!(log.stream_position().unwrap(), 64 * 3);
    set_hook(before);
    assert!(report.is_success(), "{report:?}");
    assert_eq!(stored, [CONTENTS, CONTENTS]);
}

/// Where the handler writes to, whatever that number stands for.
static LOG: AtomicI32 = AtomicI32::new(-1);

extern "C" fn log_signal(_: libc::c_int) {
    for number in 0..64 {
        // SAFETY: The bytes are static.
        unsafe { libc::write(LOG.load(Ordering::Relaxed) + number, b"LOG".as_ptr().cast(), 3) };
    }
}

fn a_signal_handler_of_the_program_does_not_run_in_a_peer() {
    let log = tempfile::tempfile().unwrap();
    let logs = logs(&log);
    LOG.store(logs.iter().map(AsRawFd::as_raw_fd).min().unwrap(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = log_signal;
    // SAFETY: The handler makes system calls only.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    // SAFETY: To ignore a signal runs no code.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let signal = |signal| {
        move |file: &mut ReceivedFile<'_>| {
            // SAFETY: It has no precondition.
            unsafe { libc::raise(signal) };
            store(file);
            Received::Everything
        }
    };
    let (report, _) = run(file(), |_| everything(8), signal(libc::SIGUSR1));
    fails(&report, "killed by SIGUSR1");
    let (report, stored) = run(file(), |_| everything(8), signal(libc::SIGUSR2));
    assert!(report.is_success(), "{report:?}");
    assert_eq!(stored, [CONTENTS, CONTENTS]);
    drop(logs);
}
