//! Sources that are written to while the program opens them: a copy that gets a name has the bytes of one
//! moment, or the run says that the source changed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, waitid};

use common::fuse::Fuse;
use common::half_write::HalfWriter;
use common::leftovers::state_of;
use common::paths::numbered;
use common::run::Run;
use common::running::Running;
use common::traced::strace;
use common::{Invocation, Sandbox, both};

/// Bytes of a source: read in a few pieces by both programs.
const SIZE: usize = 2 << 20;
const PEERS: usize = 2;
const CHANGED: &str = r#"" changed while it was copied"#;

/// Checks a run whose source was overwritten with one value after the other: each copy is of one of them, and
/// if one is missing, the run says that the source changed.
fn is_no_mix(sandbox: &Sandbox, run: Run<'_>) {
    let stored = fs::read_dir(sandbox.path("received-files"));
    let stored: Vec<PathBuf> =
        stored.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    let mut contents = Vec::new();
    for path in &stored {
        contents = fs::read(path).unwrap();
        assert_eq!(contents.len(), SIZE, "{path:?}");
        let other = contents.iter().position(|byte| *byte != contents[0]);
        assert_eq!(other, None, "{path:?} is a mix, and the run said {:?}", run.stderr());
    }
    let is_there = |peer: &usize| stored.contains(&sandbox.path(format!("received-files/{peer}")));
    let (there, missing): (Vec<usize>, Vec<usize>) = (0..PEERS).partition(is_there);
    if missing.is_empty() {
        run.stores(&numbered(there), &contents);
    } else if run.stderr().contains("peer ") {
        run.gives_up_on(&missing, CHANGED, &numbered(there), &contents);
    } else {
        run.refuses(1, CHANGED);
    }
}

/// The program, with this file as its source: by its path, or as its standard input.
fn copying<'s>(sandbox: &'s Sandbox, path: &Path, by_path: bool) -> Invocation<'s> {
    let _ = fs::remove_dir_all(sandbox.path("received-files"));
    let source = if by_path { path.as_os_str() } else { "-".as_ref() };
    let invocation = sandbox.with(["--name={peer}".as_ref(), "2".as_ref(), source]);
    match by_path {
        true => invocation,
        false => invocation.stdin(File::open(path).unwrap()),
    }
}

/// Waits until the program has ended or waits for the kernel, and not just for a moment.
fn await_end_or_block(running: &Running<'_>) {
    while !matches!(state_of(running.pid()), None | Some('Z'))
        && !(0..1000).all(|_| state_of(running.pid()) == Some('D'))
    {
        std::thread::yield_now();
    }
}

/// Where sources are, how they are overwritten, and whether the program gets their paths.
fn places() -> [(tempfile::TempDir, OFlags, bool); 3] {
    let memory = || tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = || tempfile::tempdir().unwrap();
    [
        (disk(), OFlags::empty(), true),
        (disk(), OFlags::DIRECT, true),
        (memory(), OFlags::empty(), false),
    ]
}

both!(a_write_that_is_under_way_is_waited_for, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    let writer = HalfWriter::new(&disk, SIZE);
    for (directory, flags, by_path) in places() {
        let source = directory.path().join("data");
        writer.prepare(&source);
        let write = writer.begin(&source, flags);
        let running = copying(sandbox, &source, by_path).start();
        await_end_or_block(&running);
        write.finish();
        running.finish().stores(&numbered(0..PEERS), &[2; SIZE]);
    }
});

/// The calls at which the server has something to do with its source.
const CALLS: [&str; 9] =
    ["open", "openat", "fstat", "statx", "fremovexattr", "lseek", "pread64", "read", "sendfile"];

both!(a_write_that_begins_at_any_moment_makes_no_mix, |sandbox| {
    if strace("writes that begin at any moment").is_none() {
        return;
    }
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    let writer = HalfWriter::new(&disk, SIZE);
    let mut moments = 0;
    for (directory, flags, by_path) in places() {
        let source = directory.path().join("data");
        for call in CALLS {
            for nth in 1.. {
                writer.prepare(&source);
                // Only what the server itself does to the source counts.
                let inject = format!("inject={call}:signal=STOP:when={nth}");
                let strace =
                    ["strace", "-DDD", "-qqq", "-o/dev/null", "-P", source.to_str().unwrap(), "-e"];
                let strace = [&strace[..], &[inject.as_str()]].concat();
                let running = copying(sandbox, &source, by_path).through(&strace).start();
                let either = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                let status = waitid(WaitId::Pid(running.pid()), either).unwrap().unwrap();
                if !status.stopped() {
                    is_no_mix(sandbox, running.finish());
                    break;
                }
                moments += 1;
                let write = writer.begin(&source, flags);
                kill_process(running.pid(), Signal::CONT).unwrap();
                await_end_or_block(&running);
                write.finish();
                is_no_mix(sandbox, running.finish());
            }
        }
    }

    assert!(moments > 20, "{moments}");
});

both!(a_source_that_is_never_at_rest, |sandbox| {
    for directory in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        let source = directory.path().join("data");
        let file = File::create(&source).unwrap();
        file.write_all_at(&[1; SIZE], 0).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for contents in [vec![2; SIZE], vec![1; SIZE]].iter().cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    file.write_all_at(contents, 0).unwrap();
                }
            });
            // Ends the writer however the runs end.
            let _over = Over(&is_over);
            for nth in 0..20 {
                is_no_mix(sandbox, copying(sandbox, &source, nth % 2 == 0).run());
            }
        });
    }
});

/// Says that it is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
