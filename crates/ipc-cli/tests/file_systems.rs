//! File systems that have less room than they say: by a quota, or as the disk below is smaller than it seems.
//! Whoever finds that fails with the kernel's word and gives back what it took, and the others have their
//! copies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::mounts::with_mounts_checked;
use common::paths::paths_of;
use common::{Sandbox, both, contents, private_mounts, skip, succeeds};

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
