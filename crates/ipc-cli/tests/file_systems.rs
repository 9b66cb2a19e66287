//! File systems whose free space says little. Some have less room than they say, by a quota, or as the disk
//! below is smaller than it seems: a peer that finds that fails with the kernel's word and gives back what it
//! took, and the others have their copies. Some take more than would fit, as they compress.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::FileExt;

use common::mounts::{taken_out_of, with_mounts_checked};
use common::paths::{default_paths, paths_of};
use common::{BLOCK, Sandbox, both, contents, private_mounts, skip, succeeds};

const EDQUOT: &str = "Disk quota exceeded";

/// More than the quotas that follow allow, all of which are 1 MiB. No file system tells beforehand that it
/// has less room than this: it is not its own room that is little.
const TOO_MUCH: usize = 4 << 20;

/// Root is over no quota with this capability.
const LIMITED: &str = "setpriv --bounding-set=-sys_resource";

/// From Linux 6.6 on, where the kernel was built so.
const TMPFS: &str =
    "mount -t tmpfs -o usrquota,usrquota_block_hardlimit=1m,size=512m tmpfs limited";

/// What follows is mounted over the directory that holds its image.
const BTRFS: &str = "mount -t tmpfs tmpfs limited && truncate -s 128M limited/image &&
    mkfs.btrfs limited/image && mount -o loop limited/image limited &&
    btrfs quota enable limited && btrfs qgroup limit 1M 0/5 limited";

/// A disk that is made of 8 MiB and claims to have 64.
const THIN: &str = "mount -t tmpfs -o size=8m tmpfs limited && truncate -s 64M limited/image &&
    mkfs.ext4 -q limited/image && mount -o loop limited/image limited";

/// The first of these that mounts something on the directory `limited` in which `test` succeeds; `None`
/// where none does, which it says of `what`.
fn mountable(what: &str, setups: &[&str], test: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let command = private_mounts().unwrap_or_default();
    let quiet = setups.iter().map(|setup| format!("{{ {setup}; }} >/dev/null 2>&1"));
    let found = quiet.into_iter().filter(|_| !command.is_empty()).find(|setup| {
        let script = format!(r#"cd "$1" && mkdir -p limited && {setup} && {test}"#);
        let sh = ["env", "LC_ALL=C", "sh", "-c", &script, "sh"];
        succeeds(&[command, &sh].concat(), directory.path())
    });
    if found.is_none() {
        skip(what, "no file system for that can be mounted here");
    }
    found
}

/// What mounts a file system with a quota.
fn quota() -> Option<String> {
    let exceeds =
        format!(r#"{LIMITED} head -c {TOO_MUCH} /dev/zero 2>&1 >limited/probe | grep "{EDQUOT}""#);
    mountable("a quota", &[TMPFS, BTRFS], &exceeds)
}

/// Checks a run of three peers, those in `failed` with `limited` as their directory, by a file and by a
/// stream of the same contents.
fn exceed(sandbox: &Sandbox, options: &[&str], failed: &[usize], paths: &[&str]) {
    let Some(quota) = quota() else { return };
    let contents = contents(TOO_MUCH);
    sandbox.file("data", contents);
    sandbox.directory("limited");
    let setup = format!(r#"exec <data && {quota} && set -- {LIMITED} "$@""#);
    // Nothing is left, and there is as much room as ever.
    let check = format!(
        "ls -A limited >&2; sync -f limited
        {LIMITED} head -c 768K /dev/zero 2>&1 >limited/again | grep . >&2"
    );
    for source in ["data", "-"] {
        let args = [options, &["3", source]].concat();
        let Some(run) = with_mounts_checked(sandbox, &setup, &check, &args) else { return };
        let failed: Vec<_> = failed.iter().map(|&peer| (peer, EDQUOT)).collect();
        run.loses(&failed, &paths_of(0..paths.len(), |peer| paths[peer]), contents);
    }
}

both!(a_peer_over_its_quota_fails_alone, |sandbox| {
    let link = sandbox.path("to-1");
    std::os::unix::fs::symlink("limited", link).unwrap();
    let options = ["--dir", "to-{peer}", "--name", "copy"];
    exceed(sandbox, &options, &[1], &["to-0/copy", "to-2/copy"]);
});

both!(peers_that_are_over_one_quota_all_fail, |sandbox| {
    exceed(sandbox, &["--dir", "limited"], &[0, 1, 2], &[]);
});

// Its kernel takes the bytes, and finds no place for them when they are to get to the disk.
both!(a_disk_that_is_smaller_than_it_says_fails_its_peer_only, |sandbox| {
    let Some(thin) = mountable("a disk of a file", &[THIN], "true") else { return };
    let contents = contents(16 << 20);
    sandbox.file("data", contents);
    sandbox.directory("limited");
    std::os::unix::fs::symlink("limited", sandbox.path("to-1")).unwrap();
    let args = ["--sync", "--dir", "to-{peer}", "--name", "copy", "3", "data"];
    let check = "ls -A limited | grep -vx lost+found >&2";
    let Some(run) = with_mounts_checked(sandbox, &thin, check, &args) else { return };
    let why = r#"cannot sync a file in "to-1": "#;
    run.loses(&[(1, why)], &paths_of([0, 2], |peer| format!("to-{peer}/copy")), contents);
});

/// What follows mounts a Btrfs of 128 MiB that compresses everything.
const COMPRESSED: &str = "mount -t tmpfs tmpfs limited && truncate -s 128M limited/image &&
    mkfs.btrfs limited/image && mount -o loop,compress-force limited/image limited";

/// The same with an overlay above it, which has another type.
const COMPRESSED_BELOW: &str = "mount -t tmpfs tmpfs limited && truncate -s 128M limited/image &&
    mkdir limited/empty && mkfs.btrfs limited/image && mkdir limited/btrfs &&
    mount -o loop,compress-force limited/image limited/btrfs &&
    mkdir limited/btrfs/upper limited/btrfs/work && cd limited &&
    mount -t overlay -o lowerdir=empty,upperdir=btrfs/upper,workdir=btrfs/work overlay . && cd ..";

/// So many bytes of a text that compresses well.
fn text(length: usize) -> Vec<u8> {
    let line = b"All work and no play makes Jack a dull boy.\n";
    let mut text = line.repeat(length / line.len() + 1);
    text.truncate(length);
    text
}

/// Checks runs of `peers` on file systems that compress, which must not use up 16 MiB.
fn compress(sandbox: &Sandbox, sources: &[&str], peers: usize, size: usize) {
    let contents = text(size);
    sandbox.file("data", &contents);
    sandbox.directory("limited");
    for setup in [COMPRESSED, COMPRESSED_BELOW] {
        let Some(setup) = mountable("a file system that compresses", &[setup], "true") else {
            return;
        };
        for source in sources {
            // The free space is that of the file system, whatever a copy says of its own size.
            let setup =
                format!("exec <data && {setup} && sync -f limited && stat -f -c %f limited >free");
            let check = format!(
                "sync -f limited; free=$(cat free); rm free
                test $((free - $(stat -f -c %f limited))) -lt 4096 || echo not compressed >&2
                {}",
                taken_out_of("limited")
            );
            let args = ["--dir=limited", "--name={peer}", &peers.to_string(), source];
            let Some(run) = with_mounts_checked(sandbox, &setup, &check, &args) else { return };
            run.stores(&paths_of(0..peers, |peer| format!("limited/{peer}")), &contents);
            let _ = std::fs::remove_dir_all(sandbox.path("limited"));
            sandbox.directory("limited");
        }
    }
}

both!(copies_are_compressed_as_those_of_cp_are, |sandbox| {
    compress(sandbox, &["data", "-"], 1, 20 << 20);
});

both!(copies_that_fit_when_they_are_compressed_are_not_refused, |sandbox| {
    compress(sandbox, &["data"], 3, 40 << 20);
});

both!(a_file_system_that_says_nothing_of_its_room_is_used, |sandbox| {
    let contents = contents(5 * BLOCK);
    sandbox.file("data", contents);
    for error in ["ENOSYS", "EPERM", "EIO", "EOVERFLOW"] {
        let inject = format!("inject=fstatfs,statfs:error={error}");
        let Some(run) = sandbox.with(["3", "data"]).tampered(&["-e", &inject]) else { return };
        run.run().stores(&default_paths(3, "data"), contents);
    }
});

both!(a_file_whose_room_cannot_be_reserved_is_written_all_the_same, |sandbox| {
    let contents = [contents(BLOCK), &vec![0; 1 << 20], contents(3 * BLOCK)].concat();
    let source = std::fs::File::create(sandbox.path("data")).unwrap();
    source.write_all_at(&contents[..BLOCK], 0).unwrap();
    source.write_all_at(&contents[BLOCK + (1 << 20)..], (BLOCK + (1 << 20)) as u64).unwrap();
    for error in ["EPERM", "EINVAL", "EIO", "EOPNOTSUPP", "ENOSYS", "EAGAIN"] {
        // The first call of `sharedmem` itself reserves the segment; a peer has one for each run of data.
        for when in if sandbox.is_sharedmem() { &["2+"][..] } else { &["1+", "2+"] } {
            let inject = format!("inject=fallocate:error={error}:when={when}");
            let Some(run) = sandbox.with(["3", "data"]).tampered(&["-e", &inject]) else { return };
            run.run().stores(&default_paths(3, "data"), &contents);
        }
    }
});
