//! Files that are changed while they are copied: a final name is a copy of the source as it was
//! opened, or is not there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use common::paths::{default_paths, paths_of};
use common::paused::{Fifo, resume, stop_peers_midway};
use common::{BEYOND_ALL_BUFFERS, Sandbox, both, contents};

const SIZE: usize = 32 << 20;
const PEERS: usize = 2;

/// Stops a run in mid-copy, lets `change` do something to its source, which is the file `data`, and
/// says how the run ended, and what the source was.
fn change_midway<'s>(
    sandbox: &'s Sandbox,
    change: impl FnOnce(&File),
) -> (common::run::Run<'s>, &'static [u8]) {
    let contents = contents(SIZE);
    let source = File::options().write(true).open(sandbox.file("data", contents)).unwrap();
    // Long ago, so that the change shows however coarse the clock is.
    source.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    sandbox.directory("received-files");
    let peers = PEERS.to_string();
    let (mut running, stopped) =
        stop_peers_midway(PEERS, SIZE, || sandbox.with([peers.as_str(), "data"]));
    change(&source);
    running.accept_changes();
    // The server may have seen the change already, and ended them.
    stopped.into_iter().for_each(resume);
    (running.finish(), contents)
}

both!(stopped_peers_are_waited_for, |sandbox| {
    let (run, contents) = change_midway(sandbox, |_| {});
    run.stores(&default_paths(PEERS, "data"), contents);
});

both!(a_source_that_is_removed_is_copied_as_it_was, |sandbox| {
    let (run, contents) =
        change_midway(sandbox, |_| fs::remove_file(sandbox.path("data")).unwrap());
    run.stores(&default_paths(PEERS, "data"), contents);
});

both!(a_source_that_is_replaced_is_copied_as_it_was, |sandbox| {
    let (run, contents) = change_midway(sandbox, |_| {
        let other = sandbox.file("other", b"other contents");
        fs::rename(other, sandbox.path("data")).unwrap();
    });
    run.stores(&default_paths(PEERS, "data"), contents);
});

both!(a_source_that_is_linked_and_made_read_only_is_copied, |sandbox| {
    let (run, contents) = change_midway(sandbox, |source| {
        fs::hard_link(sandbox.path("data"), sandbox.path("link")).unwrap();
        let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        source.set_permissions(read_only).unwrap();
    });
    run.stores(&default_paths(PEERS, "data"), contents);
});

const CHANGED: &str = r#""data" changed while it was copied"#;

both!(a_source_that_is_overwritten_gives_no_copy, |sandbox| {
    for offset in [0, u64::try_from(SIZE).unwrap() - 1] {
        let (run, _) = change_midway(sandbox, |source| source.write_all_at(b"x", offset).unwrap());
        run.gives_up(PEERS, CHANGED);
    }
});

both!(a_source_that_shrinks_gives_no_copy, |sandbox| {
    for size in [SIZE - 1, SIZE / 2, 0] {
        let size = u64::try_from(size).unwrap();
        let (run, _) = change_midway(sandbox, |source| source.set_len(size).unwrap());
        run.gives_up(PEERS, CHANGED);
    }
});

both!(a_source_that_grows_gives_no_copy, |sandbox| {
    let (run, _) = change_midway(sandbox, |source| {
        source.write_all_at(b"more", u64::try_from(SIZE).unwrap()).unwrap();
    });
    run.gives_up(PEERS, CHANGED);
});

both!(a_destination_that_is_removed_fails_its_peers, |sandbox| {
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let mut running = sandbox.with(["3", "fifo"]).start();
    fifo.feed(&running, contents(BEYOND_ALL_BUFFERS));
    fs::remove_dir(sandbox.path("received-files")).unwrap();
    running.accept_changes();
    drop(fifo);
    let failed = [0, 1, 2].map(|peer| (peer, "No such file or directory"));
    running.finish().loses(&failed, &[], &[]);
});

both!(a_destination_that_is_renamed_stays_the_one_that_was_meant, |sandbox| {
    sandbox.directory("before");
    let contents = contents(BEYOND_ALL_BUFFERS);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let args = ["--dir", "before", "--name", "{peer}", "2", "fifo"];
    let mut running = sandbox.with(args).start();
    fifo.feed(&running, contents);
    fs::rename(sandbox.path("before"), sandbox.path("after")).unwrap();
    // What stands at the old path now is somebody else's, and gets nothing.
    std::os::unix::fs::symlink("after", sandbox.path("before")).unwrap();
    running.accept_changes();
    drop(fifo);
    running.finish().stores(&paths_of(0..2, |peer| format!("before/{peer}")), contents);
});

both!(a_name_that_comes_up_in_between_is_respected, |sandbox| {
    sandbox.directory("received-files");
    let contents = contents(BEYOND_ALL_BUFFERS);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["--no-clobber", "--name", "{peer}", "3", "fifo"]).start();
    fifo.feed(&running, contents);
    let mut running = running;
    sandbox.file("received-files/1", b"mine");
    running.accept_changes();
    drop(fifo);
    let paths = paths_of([0, 2], |peer| format!("received-files/{peer}"));
    running.finish().loses(&[(1, "File exists")], &paths, contents);
});
