//! The version of a file: tells one state of its contents from every later one.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, SeekFrom, Stat, StatxFlags};
use rustix::io::retry_on_intr;
use rustix::time::{ClockId, clock_gettime};

use crate::Error;

/// What identifies a regular file and the state of its contents.
///
/// The change time is left out on purpose: it also moves on `chmod` and on a new hard link, which
/// leave the contents alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    /// In bytes.
    pub(crate) size: u64,
    modified: Time,
}

/// Seconds and nanoseconds since the epoch, as a file system stores them.
type Time = (i64, u32);

/// How often a file is examined that changes meanwhile.
const TRIES: u32 = 10;

/// A modification time that is further ahead was set by hand, and the clock is not waited for.
const FARTHEST_AHEAD: Duration = Duration::from_secs(3);

/// The coarsest granule, that of FAT.
const TWO_SECONDS: u64 = 2_000_000_000;

impl Version {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified(stat),
        }
    }

    /// Whether `stat` is of the same file, in any state.
    pub(crate) fn is_of(&self, stat: &Stat) -> bool {
        (self.device, self.inode) == (stat.st_dev, stat.st_ino)
    }

    /// Whether the file is still in this state.
    pub(crate) fn is_current(&self, fd: impl AsFd, path: &Path) -> Result<bool, Error> {
        Ok(Self::of(&examine_now(fd, path)?) == *self)
    }
}

/// What `stat` says of the modification time.
pub(crate) fn modified(stat: &Stat) -> Time {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// Examines an open file.
pub(crate) fn examine(fd: impl AsFd, path: &Path) -> Result<Stat, Error> {
    retry_on_intr(|| rustix::fs::fstat(&fd)).map_err(Error::at("examine", path))
}

/// The same, as the file is now: a file system that caches what another machine or process says (NFS,
/// FUSE) asks again.
fn examine_now(fd: impl AsFd, path: &Path) -> Result<Stat, Error> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let _ = rustix::fs::statx(&fd, "", flags, StatxFlags::BASIC_STATS);
    examine(fd, path)
}

/// Examines a regular file once its contents are at rest: a version that is taken from the result is
/// that of all bytes that are read as long as it is current. `look` is called meanwhile, and sees the
/// file in that state.
///
/// A `write` sets the modification time when it begins. So the contents can still change under the same
/// version if that `write` is under way, or if another one begins before the clock has moved on by as
/// much as the file system tells times apart. Both are waited for.
///
/// # Errors
/// [`Error::SourceChanged`] if it changes all the time, [`Error::Path`] if it cannot be examined, and
/// those of `look`.
pub(crate) fn at_rest<T>(
    fd: BorrowedFd<'_>,
    path: &Path,
    mut look: impl FnMut(&Stat) -> Result<T, Error>,
) -> Result<(Stat, T), Error> {
    for _ in 0..TRIES {
        let before = examine_now(fd, path)?;
        await_next_granule(modified(&before));
        await_writers(fd);
        let seen = look(&before)?;
        let after = examine_now(fd, path)?;
        if Version::of(&before) == Version::of(&after) {
            return Ok((after, seen));
        }
    }
    Err(Error::SourceChanged(path.to_owned()))
}

/// Sleeps until a `write` would set a time after `modified`.
fn await_next_granule(modified: Time) {
    while let Some(left) = until_next_granule(modified, stamping_clock()) {
        std::thread::sleep(left);
    }
}

/// The clock that the kernel takes the times of files from. It moves by ticks, of 1 to 10 ms; where file
/// systems have finer times, these are never before it.
fn stamping_clock() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn until_next_granule(modified: Time, now: Time) -> Option<Duration> {
    let nanoseconds =
        |(seconds, fraction): Time| i128::from(seconds) * 1_000_000_000 + i128::from(fraction);
    let left = nanoseconds(modified) + i128::from(granule(modified)) - nanoseconds(now);
    let left = Duration::from_nanos(u64::try_from(left).ok()?);
    (!left.is_zero() && left <= FARTHEST_AHEAD).then_some(left)
}

/// The coarsest unit that a file system with such a time may have, in nanoseconds: two seconds (FAT), one
/// second (ext4 with inodes of 128 bytes), or a power of ten below (10 ms in exFAT).
fn granule((seconds, fraction): Time) -> u64 {
    if fraction == 0 {
        return if seconds % 2 == 0 { TWO_SECONDS } else { TWO_SECONDS / 2 };
    }
    let mut granule = 1;
    while fraction % (granule * 10) == 0 {
        granule *= 10;
    }
    granule.into()
}

/// Waits for the end of every `write` that is under way.
///
/// A `write` holds the inode's lock. Two calls that fail at once take it too, and change nothing; which
/// of them waits depends on the file system and the mount:
///
/// - To remove an attribute takes the lock exclusively before permissions and names are looked at. A
///   `write` with `O_DIRECT` may share the lock, so this is what waits for it. A mount that is read-only
///   is refused earlier.
/// - To seek to data behind the end waits for a `write` that holds the lock alone. No file is so long, so
///   the position stays.
fn await_writers(fd: BorrowedFd<'_>) {
    let _ = retry_on_intr(|| rustix::fs::fremovexattr(fd, "no-such-attribute"));
    let _ = retry_on_intr(|| rustix::fs::seek(fd, SeekFrom::Data(i64::MAX.unsigned_abs())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn the_coarsest_unit_that_a_time_may_have() {
        for (time, expected) in [
            ((1000, 123_456_789), 1),
            ((1000, 123_456_700), 100),
            ((1000, 120_000_000), 10_000_000),
            ((1000, 500_000_000), 100_000_000),
            ((1001, 0), 1_000_000_000),
            ((1000, 0), 2_000_000_000),
            ((-1, 0), 1_000_000_000),
            ((-2, 0), 2_000_000_000),
        ] {
            assert_eq!(granule(time), expected, "{time:?}");
        }
    }

    #[test]
    fn only_a_time_that_the_next_write_could_set_again_is_waited_for() {
        let millis = |millis| Some(Duration::from_millis(millis));
        for (modified, now, expected) in [
            // Fine times: until the clock has moved on.
            ((50, 123_456_789), (50, 123_456_789), Some(Duration::from_nanos(1))),
            ((50, 123_456_789), (50, 123_456_790), None),
            ((50, 123_456_789), (51, 0), None),
            // Finer than the clock, which is behind.
            ((50, 7_000_001), (50, 4_000_000), Some(Duration::from_nanos(3_000_002))),
            // Whole seconds, odd and even.
            ((51, 0), (51, 400_000_000), millis(600)),
            ((51, 0), (52, 0), None),
            ((50, 0), (51, 400_000_000), millis(600)),
            ((50, 0), (52, 0), None),
            ((50, 0), (5000, 0), None),
            // Another clock, or set by hand.
            ((51, 0), (50, 0), millis(2000)),
            ((5000, 0), (50, 0), None),
            ((i64::MAX, 0), (50, 0), None),
            ((i64::MIN, 999_999_999), (i64::MAX, 0), None),
        ] {
            assert_eq!(until_next_granule(modified, now), expected, "{modified:?} at {now:?}");
        }
    }

    #[test]
    fn a_file_that_changes_a_few_times_comes_to_rest() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let reader = file.reopen().unwrap();
        let mut calls = 0;
        let (stat, ()) = at_rest(reader.as_fd(), file.path().to_owned().as_path(), |_| {
            calls += 1;
            if calls < 4 {
                file.write_all(b"x").unwrap();
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((calls, stat.st_size), (4, 3));
    }

    #[test]
    fn a_file_that_never_rests_is_given_up() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let reader = file.reopen().unwrap();
        let error = at_rest(reader.as_fd(), file.path().to_owned().as_path(), |_| {
            file.write_all(b"x").unwrap();
            Ok(())
        })
        .unwrap_err();
        assert!(matches!(error, Error::SourceChanged(_)), "{error}");
    }

    #[test]
    fn the_wait_for_writers_leaves_position_and_times_alone() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 1000]).unwrap();
        let before = rustix::fs::fstat(&file).unwrap();
        await_writers(file.as_file().as_fd());
        let after = rustix::fs::fstat(&file).unwrap();
        assert_eq!(rustix::fs::tell(&file).unwrap(), 1000);
        assert_eq!(Version::of(&before), Version::of(&after));
        assert_eq!((before.st_ctime, before.st_ctime_nsec), (after.st_ctime, after.st_ctime_nsec));
    }
}
