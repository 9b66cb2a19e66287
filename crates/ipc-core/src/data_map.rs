//! Where in a file there is data; all else are holes, which need neither travel nor take room.

use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, retry_on_intr};

/// The parts of a file that hold data, in order.
///
/// A *position* counts bytes of data only, as if the parts lay one right behind the other: that is what
/// travels. An *offset* counts all bytes of the file. Without holes they are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataMap {
    extents: Vec<Extent>,
    /// Size of the whole file, in bytes; `None` for a stream, which has no holes.
    size: Option<u64>,
}

/// A part of a file without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    position: u64,
    offset: u64,
    length: u64,
}

/// The data from one position on, up to the next hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where in the file it begins.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// The most extents in a map, which is held in memory. Of a file with more, the shortest holes are
/// treated as data.
const MOST_EXTENTS: usize = 1 << 16;

impl DataMap {
    /// The map of a file without holes.
    #[must_use]
    pub fn dense(size: Option<u64>) -> Self {
        let whole = Extent { position: 0, offset: 0, length: size.unwrap_or(u64::MAX) };
        Self { extents: vec![whole], size }
    }

    /// The map of a file of `size` bytes, as its file system tells it (`SEEK_DATA`, `SEEK_HOLE`). Where that
    /// knows no holes or fails to tell, there are none.
    pub(crate) fn of(fd: impl AsFd, size: u64) -> Self {
        Self::told_by(size, |to| retry_on_intr(|| seek(&fd, to)))
    }

    /// The same, by whoever says where one comes to. It may say anything: a file system can be another
    /// process.
    fn told_by(size: u64, mut seek: impl FnMut(SeekFrom) -> Result<u64, Errno>) -> Self {
        let mut extents = Extents::default();
        let mut offset = 0;
        while offset < size {
            let run = match seek(SeekFrom::Data(offset)) {
                // There is no more data.
                Err(Errno::NXIO) => break,
                Ok(start) if start >= offset => match seek(SeekFrom::Hole(start)) {
                    Ok(end) if start < end => start.min(size)..end.min(size),
                    _ => return Self::dense(Some(size)),
                },
                _ => return Self::dense(Some(size)),
            };
            offset = run.end.max(offset.saturating_add(1));
            extents.add(run, MOST_EXTENTS);
        }
        Self { extents: extents.list, size: Some(size) }
    }

    /// Bytes of data, which is what there is to copy; `None` for a stream.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.size.map(|_| self.extents.last().map_or(0, |last| last.position + last.length))
    }

    /// The data from `position` on; `None` behind the last.
    #[must_use]
    pub fn find(&self, position: u64) -> Option<Run> {
        let behind = self.extents.partition_point(|extent| extent.position <= position);
        let extent = behind.checked_sub(1).and_then(|index| self.extents.get(index))?;
        let within = position - extent.position;
        let length = extent.length.checked_sub(within).filter(|&length| length > 0)?;
        Some(Run { offset: extent.offset + within, length })
    }

    /// Size of the file when the data up to `position` is in it, and no more.
    pub(crate) fn size_at(&self, position: u64) -> u64 {
        match (self.size, self.length()) {
            (Some(size), Some(length)) if position >= length => size + (position - length),
            _ => self.find(position).map_or(position, |run| run.offset),
        }
    }

    /// All data, extent by extent.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        self.extents.iter().map(|&Extent { offset, length, .. }| Run { offset, length })
    }
}

/// A list in the making.
#[derive(Debug, Default)]
struct Extents {
    list: Vec<Extent>,
    /// Holes that are shorter are no holes.
    shortest_hole: u64,
}

impl Extents {
    /// Adds data behind all others.
    fn add(&mut self, run: std::ops::Range<u64>, most: usize) {
        if run.is_empty() {
            return;
        }
        self.append(run);
        while self.list.len() > most {
            self.shortest_hole = (self.shortest_hole * 2).max(4096);
            for extent in std::mem::take(&mut self.list) {
                self.append(extent.offset..extent.offset + extent.length);
            }
        }
    }

    fn append(&mut self, run: std::ops::Range<u64>) {
        let mut position = 0;
        if let Some(last) = self.list.last_mut() {
            let end = last.offset + last.length;
            if run.start.saturating_sub(end) < self.shortest_hole.max(1) {
                last.length = run.end - last.offset;
                return;
            }
            position = last.position + last.length;
        }
        self.list.push(Extent { position, offset: run.start, length: run.end - run.start });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    fn map(size: u64, runs: &[(u64, u64)], most: usize) -> DataMap {
        let mut extents = Extents::default();
        runs.iter().for_each(|&(offset, length)| extents.add(offset..offset + length, most));
        DataMap { extents: extents.list, size: Some(size) }
    }

    #[test]
    fn a_file_with_holes_is_mapped_as_it_is() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100 << 20).unwrap();
        assert_eq!(DataMap::of(&file, 100 << 20).length(), Some(0), "all of it is a hole");
        file.write_all_at(b"data", 1 << 20).unwrap();
        file.write_all_at(b"data", 50 << 20).unwrap();
        let map = DataMap::of(&file, 100 << 20);
        let runs: Vec<_> = map.runs().map(|run| run.offset).collect();
        assert_eq!(runs, [1 << 20, 50 << 20]);
        assert!(map.length().unwrap() < 1 << 20);
    }

    #[test]
    fn a_file_without_holes_is_one_extent() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 10_000], 0).unwrap();
        assert_eq!(DataMap::of(&file, 10_000), DataMap::dense(Some(10_000)));
    }

    #[test]
    fn positions_and_offsets() {
        let map = map(100, &[(10, 5), (50, 20)], 10);
        let found = |position| map.find(position).map(|run| (run.offset, run.length));
        assert_eq!(found(0), Some((10, 5)));
        assert_eq!(found(4), Some((14, 1)));
        assert_eq!(found(5), Some((50, 20)));
        assert_eq!(found(24), Some((69, 1)));
        assert_eq!(found(25), None);
        let sizes = [0, 4, 5, 25, 26].map(|position| map.size_at(position));
        assert_eq!(sizes, [10, 14, 50, 100, 101]);
    }

    #[test]
    fn a_file_system_that_goes_back_tells_nothing() {
        // Data from 60 to 70, then from 0 to 50.
        let mut answers = [60, 70, 0, 50].into_iter();
        let map = DataMap::told_by(100, |_| answers.next().ok_or(Errno::NXIO));
        assert_eq!(map, DataMap::dense(Some(100)));
    }

    proptest! {
        #[test]
        fn whatever_a_file_system_says_can_be_copied(answers: Vec<u8>) {
            let mut answers = answers.into_iter();
            let map = DataMap::told_by(100, |_| answers.next().map(u64::from).ok_or(Errno::NXIO));
            let mut end = 0;
            for Run { offset, length } in map.runs() {
                prop_assert!(offset >= end && length > 0);
                end = offset + length;
            }
            prop_assert!(end <= 100);
            prop_assert_eq!(map.length(), Some(map.runs().map(|run| run.length).sum()));
        }

        #[test]
        fn no_data_is_ever_lost_however_many_holes_there_are(
            parts in proptest::collection::vec((1..20_000u64, 1..20_000u64), 0..200),
            most in 1..20usize,
        ) {
            let mut end = 0;
            let runs: Vec<_> = parts.iter().map(|&(hole, data)| {
                let start = end + hole;
                end = start + data;
                (start, data)
            }).collect();
            let map = map(end, &runs, most);
            prop_assert!(map.runs().count() <= most);
            for (offset, length) in runs {
                let covers = |run: Run| run.offset <= offset && offset + length <= run.offset + run.length;
                prop_assert!(map.runs().any(covers));
            }
            let mut position = 0;
            for run in map.runs() {
                prop_assert_eq!(map.find(position), Some(run));
                position += run.length;
            }
            prop_assert_eq!(map.find(position), None);
            prop_assert_eq!(map.length(), Some(position));
        }
    }
}
