//! Sources on file systems whose times are coarse, changed just before the run and again in it: what a file
//! system cannot tell apart is told apart by waiting.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use common::fuse::{Fault, Fuse};
use common::paths::{default_paths, numbered};
use common::paused::{resume, stop_peers_midway};
use common::{both, contents, private_mounts, skip};

const SIZE: usize = 16 << 20;
const PEERS: usize = 2;

both!(a_change_in_the_granule_of_the_last_one_is_noticed, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    sandbox.directory("received-files");
    for granule in [10, 1000, 2000].map(Duration::from_millis) {
        disk.set(&[Fault::CoarseTimes(granule)]);
        let source = File::create(disk.path().join("data")).unwrap();
        let peers = PEERS.to_string();
        let (mut running, stopped) = stop_peers_midway(PEERS, SIZE, || {
            source.write_all_at(contents(SIZE), 0).unwrap();
            sandbox.with(["--on-slow=wait", &peers, "disk/data"])
        });
        source.write_all_at(b"x", 0).unwrap();
        running.accept_changes();
        stopped.into_iter().for_each(resume);
        running.finish().gives_up(PEERS, r#""disk/data" changed while it was copied"#);
    }
});

both!(a_time_that_says_enough_is_not_waited_for, |sandbox| {
    let now = SystemTime::now();
    let minute = Duration::from_secs(60);
    let path = sandbox.file("data", contents(SIZE));
    for modified in [now - minute, now + minute, SystemTime::UNIX_EPOCH] {
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let running =
            sandbox.with(["2", "data"]).tampered(&["-e", "inject=clock_nanosleep:signal=KILL"]);
        let Some(invocation) = running else { return };
        invocation.run().stores(&default_paths(2, "data"), contents(SIZE));
    }
});

both!(the_second_overwrite_within_a_second_makes_no_mix, |sandbox| {
    let Some(command) = private_mounts() else {
        return skip("a disk with coarse times", "this user may not mount");
    };
    let [old, new] = [3, 4].map(|value| vec![value; SIZE]);
    sandbox.file("old", &old);
    sandbox.file("new", &new);
    sandbox.directory("disk");
    // Each time within the first half of a second, so that both overwrites have its time.
    let script = r#"
        mount -t tmpfs tmpfs disk && truncate -s 100M disk/image && mkfs.ext4 -qI 128 disk/image >/dev/null 2>&1 &&
            mount -o loop disk/image disk || exit 99
        until case $(date +%1N) in 0|1) true;; *) false;; esac; do :; done
        dd if=old of=disk/data bs=16M conv=notrunc status=none
        (sleep .008; dd if=new of=disk/data bs=16M conv=notrunc status=none) & "$@""#;
    for _ in 0..3 {
        let args = ["--on-slow=wait", "--name={peer}", "2", "disk/data"];
        let run = sandbox.with(args).in_shell(script).through(command).run();
        if run.stderr().is_empty() {
            return skip("a disk with coarse times", "it cannot be mounted here");
        }
        let copy = fs::read(sandbox.path("received-files/0"));
        let contents = copy.ok().filter(|copy| *copy == old).unwrap_or(new.clone());
        run.stores(&numbered(0..2), &contents);
        fs::remove_dir_all(sandbox.path("received-files")).unwrap();
    }
});
