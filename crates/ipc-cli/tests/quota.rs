//! Quotas of a file system. Who would be over it fails with the kernel's word, gives back what it took, and
//! the others have their copies.
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

/// What mounts a file system with a quota on the directory `limited`; `None` where there is none, which it
/// says.
fn quota() -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let found = private_mounts().and_then(|command| {
        let setups = [TMPFS, BTRFS].map(|setup| format!("{{ {setup}; }} >/dev/null 2>&1"));
        setups.into_iter().find(|setup| {
            let script = format!(
                r#"cd "$1" && mkdir -p limited && {setup} && export LC_ALL=C || exit 99
                {LIMITED} head -c {TOO_MUCH} /dev/zero 2>&1 >limited/probe | grep "{EDQUOT}""#
            );
            succeeds(&[command, &["sh", "-c", &script, "sh"]].concat(), directory.path())
        })
    });
    if found.is_none() {
        skip("a quota", "neither tmpfs nor btrfs can be mounted with one here");
    }
    found
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
