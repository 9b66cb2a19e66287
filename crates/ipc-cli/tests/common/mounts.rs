//! Runs that have mounts of their own.

use super::run::Run;
use super::{Sandbox, private_mounts, skip};

/// Runs the program with mounts of its own: an empty `/dev/shm`, and what `setup` makes. Then it
/// lists what is left in `/dev/shm`, as if the program had said so.
pub(crate) fn with_mounts<'s>(sandbox: &'s Sandbox, setup: &str, args: &[&str]) -> Option<Run<'s>> {
    with_mounts_checked(sandbox, setup, "true", args)
}

/// As [`with_mounts`], and what `check` prints on standard error is as if the program had said so.
pub(crate) fn with_mounts_checked<'s>(
    sandbox: &'s Sandbox,
    setup: &str,
    check: &str,
    args: &[&str],
) -> Option<Run<'s>> {
    let Some(command) = private_mounts() else {
        skip("other mounts", "this user may not make any");
        return None;
    };
    let script = format!(
        r#"mount -t tmpfs tmpfs /dev/shm && {setup} || exit 99
        "$@"; status=$?
        ls -A /dev/shm 2>&- | grep -vx full >&2
        {check}
        exit $status"#
    );
    Some(sandbox.with(args).in_shell(&script).through(command).run())
}

/// A script that puts what is in `directory`, where something is mounted, below the mount, so that it can
/// be seen from outside. It begins and ends with the run's other checks.
pub(crate) fn taken_out_of(directory: &str) -> String {
    format!(
        "mkdir /dev/shm/out && cp -a {directory}/* /dev/shm/out && rm -rf /dev/shm/out/lost+found
        while umount -l {directory} 2>&-; do :; done
        cp -a /dev/shm/out/* {directory} && rm -r /dev/shm/out"
    )
}
