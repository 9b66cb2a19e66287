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
