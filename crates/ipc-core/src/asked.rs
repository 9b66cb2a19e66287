//! A question to a file system that may not answer: another process asks it, which can be abandoned.
#![allow(unsafe_code, reason = "forks")]

use std::os::fd::AsFd;
use std::time::Duration;

use crate::process::{Exit, Lifeline, fork};
use crate::unnamed::FileId;
use crate::{Directory, FileName};

/// Whether `name` in `directory` is `file`; `None` if that is not known by `deadline`
/// ([`now`](crate::io::now)).
pub(crate) fn is_named(
    directory: &Directory,
    name: &FileName,
    file: FileId,
    deadline: Duration,
) -> Option<bool> {
    const NO: u8 = 0;
    const YES: u8 = 1;
    const UNKNOWN: u8 = 2;
    let ask = |_| match directory.examine(name) {
        Ok(Some(stat)) if FileId::of(&stat) == file => YES,
        Ok(_) => NO,
        Err(_) => UNKNOWN,
    };
    // SAFETY: The process uses the directory only, which it keeps.
    let mut child = unsafe { fork(Lifeline::DiesWithParent, &[directory.as_fd()], ask) }.ok()?;
    let exit = child.wait_until(deadline);
    child.kill();
    match exit {
        Ok(Some(Exit::Status(status))) if status == i32::from(YES) => Some(true),
        Ok(Some(Exit::Status(status))) if status == i32::from(NO) => Some(false),
        _ => None,
    }
}
