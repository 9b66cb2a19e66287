//! Calls that may be interrupted, refused for now, or cut short, made whole; and how long waits last.
//!
//! Who waits for bytes asks here for "all of these" and gets them, the end, or an error. Only loops
//! that must not wait, because they serve many, handle `EAGAIN` themselves.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long any wait lasts, at most, before the waiting side looks whether the other side still lives.
///
/// No wake-up depends on it: it bounds only how long a death can go unnoticed that no descriptor
/// or semaphore announces.
pub const SLICE: Duration = Duration::from_millis(100);

/// The time by the monotonic clock, which all processes share.
#[must_use]
pub fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // It counts from the start of the machine, and never is negative.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// `duration` as the kernel takes it; anything beyond its range becomes the longest wait there is.
#[must_use]
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Runs `call` until it is neither interrupted nor refused for lack of readiness.
///
/// After `EAGAIN` it sleeps until `fd` is ready for `events`, so a descriptor that somebody else
/// made non-blocking (a terminal's, say) costs no spinning.
///
/// # Errors
/// Whatever `call` fails with, other than `EINTR` and `EAGAIN`; what `poll` fails with.
pub fn retry<T>(
    fd: impl AsFd,
    events: PollFlags,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                wait_ready(&fd, events, None)?;
            }
            result => return Ok(result?),
        }
    }
}

/// Sleeps until `fd` is ready for `events` or hung up, at most `timeout`; `None` sleeps without end.
///
/// Returns whether it is ready. A signal ends the wait early, as not ready.
///
/// # Errors
/// What `poll` fails with.
pub fn wait_ready(fd: impl AsFd, events: PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(timespec);
    match poll(&mut [PollFd::new(&fd, events)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads once from the position of `fd` into `buffer`; 0 is the end.
///
/// # Errors
/// What `read` fails with.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(&fd, PollFlags::IN, || rustix::io::read(&fd, &mut *buffer))
}

/// Fills `buffer` from byte `offset` of `fd`; less than its length only where the file ends.
///
/// # Errors
/// What `pread` fails with.
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    complete(buffer.len(), |done| {
        let offset = offset.saturating_add(done as u64);
        retry(&fd, PollFlags::IN, || rustix::io::pread(&fd, &mut buffer[done..], offset))
    })
}

/// Writes all of `bytes` at the position of `fd`.
///
/// # Errors
/// What `write` fails with; [`io::ErrorKind::WriteZero`] if it takes nothing any more.
pub fn write_all(fd: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let written = complete(bytes.len(), |done| {
        retry(&fd, PollFlags::OUT, || rustix::io::write(&fd, &bytes[done..]))
    })?;
    match written == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Calls `call` with the number of bytes that are done, until that is `length` or it does no more.
///
/// Returns how many are done.
///
/// # Errors
/// What `call` fails with.
pub fn complete(
    length: usize,
    mut call: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < length {
        match call(done)? {
            0 => break,
            bytes => done += bytes,
        }
    }
    Ok(done)
}

/// The lesser of both: how many of `bytes` bytes go into a place or a call that takes `most`.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "it is no greater than `most`")]
pub fn at_most(bytes: u64, most: usize) -> usize {
    bytes.min(most as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_would_block_is_waited_for() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let writing = std::thread::spawn(move || write_all(&writer, b"late").unwrap());
        let mut buffer = [0; 8];
        assert_eq!(read(&reader, &mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"late");
        writing.join().unwrap();
    }

    #[test]
    fn of_many_bytes_as_many_are_taken_as_there_is_room_for() {
        for (bytes, most, taken) in [
            (0, 5, 0),
            (5, 0, 0),
            (4, 5, 4),
            (6, 5, 5),
            (u64::from(u32::MAX) + 3, 5, 5),
            (u64::MAX, usize::MAX, usize::MAX),
        ] {
            assert_eq!(at_most(bytes, most), taken, "{bytes}, {most}");
        }
    }

    #[test]
    fn read_at_stops_short_only_at_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(read_at(&file, &mut buffer, 3).unwrap(), 4);
        assert_eq!(&buffer, b"3456");
        assert_eq!(read_at(&file, &mut buffer, 8).unwrap(), 2);
        assert_eq!(read_at(&file, &mut buffer, 10).unwrap(), 0);
    }

    #[test]
    fn a_full_device_is_an_error_of_write_all() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write_all(&full, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
