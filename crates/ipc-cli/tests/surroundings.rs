//! What a caller hands down besides the arguments: limits, standard streams, `/dev/shm` and file
//! systems. Each is coped with, or named as the reason of a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use common::mounts::{with_mounts, with_mounts_checked};
use common::paths::{default_paths, numbered, paths_of};
use common::{BLOCK, both, contents, skip};

const NUMBERED: [&str; 4] = ["--name", "{peer}", "3", "data"];

both!(a_lost_report_is_an_error_and_the_copies_are_there, |sandbox| {
    let contents = contents(BLOCK + 1);
    sandbox.file("data", contents);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let run = sandbox.with(NUMBERED).stdout(full).run();
    run.loses_its_report(&numbered(0..3), contents, "No space left on device");

    // As a pipe whose reader has gone, but for whoever else may have inherited that end just now.
    let (reader, writer) = UnixStream::pair().unwrap();
    reader.shutdown(Shutdown::Both).unwrap();
    let run = sandbox.with(NUMBERED).stdout(OwnedFd::from(writer)).run();
    run.loses_its_report(&numbered(0..3), contents, "Broken pipe");
});

both!(closed_standard_streams_harm_no_copy, |sandbox| {
    let contents = contents(BLOCK + 1);
    sandbox.file("data", contents);
    for closed in ["<&-", "2>&-", "<&- 2>&-", "2>/dev/full"] {
        let script = format!(r#"exec "$@" {closed}"#);
        let invocation = sandbox.with(["-q"].into_iter().chain(NUMBERED)).in_shell(&script);
        invocation.run().quietly().stores(&numbered(0..3), contents);
    }
});

both!(a_closed_standard_stream_that_is_needed_is_an_error, |sandbox| {
    let contents = contents(BLOCK + 1);
    sandbox.file("data", contents);
    let run = sandbox.with(["2", "-"]).in_shell(r#"exec "$@" <&-"#).run();
    run.refuses(1, "cannot open standard input: Bad file descriptor");
    let invocation = sandbox.with(NUMBERED).in_shell(r#"exec "$@" >&-"#).stdout(Stdio::null());
    invocation.run().loses_its_report(&numbered(0..3), contents, "Bad file descriptor");
});

both!(a_limit_of_file_size_is_an_error_and_no_death, |sandbox| {
    // The shell's unit is 512 or 1024 bytes. The first limit leaves no room for a ring either.
    sandbox.file("data", contents(16 << 20));
    sandbox.directory("received-files");
    let failed = [0, 1, 2].map(|peer| (peer, "File too large"));
    for ignored in ["", "trap '' XFSZ; "] {
        for (blocks, ring_fits) in [(8, false), (8192, true)] {
            let script = format!(r#"{ignored}ulimit -f {blocks}; exec "$@""#);
            let run = sandbox.with(["3", "data"]).in_shell(&script).run();
            if ring_fits || !sandbox.is_sharedmem() {
                run.loses(&failed, &[], &[]);
            } else {
                run.refuses(1, "File too large");
            }
        }
    }
});

both!(shared_memory_that_cannot_be_had, |sandbox| {
    let contents = contents(1 << 20);
    sandbox.file("data", contents);
    let mount = "mount -t tmpfs -o";
    for (setup, why) in [
        (format!("{mount} size=64k tmpfs /dev/shm"), "No space left on device"),
        (format!("{mount} nr_inodes=1 tmpfs /dev/shm"), "No space left on device"),
        (format!("{mount} ro tmpfs /dev/shm"), "Read-only file system"),
        (
            format!("{mount} size=2m tmpfs /dev/shm && head -c 2M /dev/zero >/dev/shm/full"),
            "No space left on device",
        ),
        (format!("{mount} size=64k tmpfs /dev"), "No such file or directory"),
    ] {
        let Some(run) = with_mounts(sandbox, &setup, &["3", "data"]) else { return };
        if sandbox.is_sharedmem() {
            let advice = match why {
                "No space left on device" => {
                    "use a smaller --blocks or --block-size, or the program"
                }
                _ => "use the program socket, which needs no /dev/shm",
            };
            run.refuses(1, &format!("{why}: {advice}"));
        } else {
            run.stores(&default_paths(3, "data"), contents);
        }
    }
});

both!(the_advice_for_little_shared_memory_is_right, |sandbox| {
    let contents = contents(1 << 20);
    sandbox.file("data", contents);
    let setup = "mount -t tmpfs -o size=64k tmpfs /dev/shm";
    let smaller: &[_] = &["--blocks", "2", "--block-size", "4096", "3", "data"];
    let args = if sandbox.is_sharedmem() { smaller } else { &["3", "data"] };
    let Some(run) = with_mounts(sandbox, setup, args) else { return };
    run.stores(&default_paths(3, "data"), contents);
});

both!(children_in_another_pid_namespace_are_refused, |sandbox| {
    sandbox.file("data", b"contents");
    let unshare = ["unshare", "--user", "--map-root-user", "--pid"];
    if !common::succeeds(&unshare, "true") {
        skip("PID namespaces", "this user may not make any");
        return;
    }
    let run = sandbox.with(["2", "data"]).through(&unshare).run();
    run.refuses(1, "peers would be in a PID namespace of their own");
});

both!(a_read_only_destination_is_refused, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("received-files");
    let setup = "mount -t tmpfs -o ro tmpfs received-files";
    for directory in ["received-files", "received-files/new"] {
        let Some(run) = with_mounts(sandbox, setup, &["--dir", directory, "3", "data"]) else {
            return;
        };
        run.refuses(1, "Read-only file system");
    }
});

both!(copies_that_surely_do_not_fit_are_refused, |sandbox| {
    sandbox.file("data", contents(1 << 20));
    sandbox.directory("received-files");
    let setup = "mount -t tmpfs -o size=2m tmpfs received-files";
    let Some(run) = with_mounts(sandbox, setup, &["3", "data"]) else { return };
    run.refuses(
        1,
        "3 copies of 1.0 MiB need 3.0 MiB, \"received-files\" has room for 2.0 MiB: free",
    );
});

// The numbers do not contradict each other, however near they are.
both!(copies_that_nearly_fit_are_refused_in_numbers_that_say_so, |sandbox| {
    sandbox.directory("received-files");
    for (size, room, copies, why) in [
        (
            1_060_000,
            "2068k",
            "2",
            "2 copies of 1.011 MiB need 2.022 MiB, \"received-files\" has room for 2.020 MiB",
        ),
        (
            (1 << 20) + 1,
            "1m",
            "1",
            "1 copy of 1048577 bytes needs 1048577 bytes, \"received-files\" has room for 1048576 bytes",
        ),
        (
            BLOCK,
            "156k",
            "2",
            "2 copies of 80.0 KiB need 160.0 KiB, \"received-files\" has room for 156.0 KiB",
        ),
    ] {
        sandbox.file("data", contents(size));
        let setup = format!("mount -t tmpfs -o size={room} tmpfs received-files");
        let Some(run) = with_mounts(sandbox, &setup, &[copies, "data"]) else { return };
        run.refuses(1, why);
    }
});

both!(a_full_destination_fails_its_peer_only, |sandbox| {
    let contents = contents(1 << 20);
    sandbox.file("data", contents);
    sandbox.directory("to-1");
    // From standard input, as how much it is must not be known before.
    let setup = "exec <data && mount -t tmpfs -o size=64k tmpfs to-1";
    // The room that the peer took is given back.
    let check = "stat -f -c %b,%f to-1 | grep -vx 16,16 >&2";
    let args = ["--dir", "to-{peer}", "--name", "{name}", "3", "-"];
    let Some(run) = with_mounts_checked(sandbox, setup, check, &args) else { return };
    let paths = paths_of([0, 2], |peer| format!("to-{peer}/stdin"));
    run.loses(&[(1, "No space left on device")], &paths, contents);
});

both!(a_destination_without_inodes_fails_its_peer_only, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("to-1");
    let setup = "mount -t tmpfs -o nr_inodes=1 tmpfs to-1";
    let args = ["--dir", "to-{peer}", "--name", "{name}", "3", "data"];
    let Some(run) = with_mounts(sandbox, setup, &args) else { return };
    let paths = paths_of([0, 2], |peer| format!("to-{peer}/data"));
    run.loses(&[(1, "No space left on device")], &paths, b"contents");
});
