//! `--verify`: what is stored is read back, and is what was sent, and what the source still is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "a file is stored to through a mapping")]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use common::paths::{default_paths, paths_of};
use common::paused::{bytes_stored, resume, stop_midway};
use common::{BLOCK, RING, Sandbox, both, contents};
use rustix::mm::{MapFlags, ProtFlags};

const SIZE: usize = 32 << 20;

both!(a_copy_of_any_size_is_verified, |sandbox| {
    for size in [0, 1, BLOCK, RING + 1, SIZE] {
        sandbox.file("data", contents(size));
        let name = format!("--name={size}-{{pid}}-{{name}}");
        let run = sandbox.run(["--verify", &name, "3", "data"]);
        run.stores(
            &paths_of(0..3, |_| format!("received-files/{size}-{}-data", common::paths::PID)),
            contents(size),
        );
    }
});

both!(a_stream_is_verified, |sandbox| {
    let running = sandbox.with(["--verify", "3", "-"]).stdin(Stdio::piped()).start();
    let run = running.feed_stdin(contents(SIZE)).finish();
    run.stores(&default_paths(3, "stdin"), contents(SIZE));
});

both!(a_copy_on_the_disk_is_verified, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let run = sandbox.run(["--verify", "--sync", "3", "data"]);
    run.stores(&default_paths(3, "data"), contents(SIZE));
});

/// A file that another process stores to through a mapping, whose pages were written before: so its
/// times do not move.
struct Mapped {
    bytes: *mut u8,
}

impl Mapped {
    fn new(path: &Path, contents: &[u8]) -> Self {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.write_all(contents).unwrap();
        let (both, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: The kernel chooses the address.
        let bytes = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), contents.len(), both, shared, &file, 0)
        };
        let mapped = Self { bytes: bytes.unwrap().cast() };
        for page in (0..contents.len()).step_by(4096) {
            mapped.store(page, contents[page]);
        }
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        mapped
    }

    fn store(&self, offset: usize, byte: u8) {
        // SAFETY: The callers stay within the file, whose mapping lasts as long as the process.
        let place = unsafe { self.bytes.add(offset) };
        // SAFETY: It is mapped for writing, and nobody in this process has a reference to it.
        unsafe { place.write_volatile(byte) };
    }
}

/// Stops a run, stores a byte to its source through an old mapping, and lets it go on.
fn store_midway<'s>(sandbox: &'s Sandbox, options: &[&str]) -> common::run::Run<'s> {
    let contents = contents(SIZE);
    let mapped = Mapped::new(&sandbox.path("data"), contents);
    sandbox.directory("received-files");
    let args = [options, &["--name", "{peer}", "2", "data"]].concat();
    let (mut running, peers) = stop_midway(2, &[0, 1], 1..SIZE, || {
        mapped.store(0, contents[0]);
        sandbox.with(&args)
    });
    mapped.store(0, !contents[0]);
    running.accept_changes();
    peers.into_iter().for_each(resume);
    running.finish()
}

both!(a_store_through_an_old_mapping_is_seen, |sandbox| {
    let run = store_midway(sandbox, &["--verify"]);
    if sandbox.is_sharedmem() {
        run.gives_up(2, r#""data" changed while it was copied"#);
    } else {
        run.loses(&[0, 1].map(|peer| (peer, "its copy reads back as BLAKE3 ")), &[], &[]);
    }
});

both!(a_copy_that_was_spoilt_gets_no_name, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    sandbox.directory("received-files");
    let args = ["--verify", "--name", "{peer}", "3", "data"];
    let (running, peers) = stop_midway(3, &[1], 1..SIZE, || sandbox.with(args));
    spoil(sandbox, peers[1]);
    resume(peers[1]);
    let paths = paths_of([0, 2], |peer| format!("received-files/{peer}"));
    running.finish().loses(&[(1, "its copy reads back as BLAKE3 ")], &paths, contents);
});

/// Changes the first byte of what a peer has stored so far.
fn spoil(sandbox: &Sandbox, peer: rustix::process::Pid) {
    assert!(bytes_stored(sandbox, peer) > 0);
    let directory = sandbox.path("received-files");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", peer.as_raw_pid())).unwrap();
    let stored = descriptors.map(|descriptor| descriptor.unwrap().path()).find(|path| {
        let target = std::fs::read_link(path).unwrap();
        target.starts_with(&directory) && target != directory
    });
    let file = File::options().read(true).write(true).open(stored.unwrap()).unwrap();
    let mut first = [0];
    file.read_exact_at(&mut first, 0).unwrap();
    file.write_all_at(&[!first[0]], 0).unwrap();
}
