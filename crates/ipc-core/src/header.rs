//! What the server tells every peer about the source before its bytes: the same for both protocols.

use crate::{Error, FileName};

/// The source as announced to the peers.
///
/// ```
/// use ipc_core::{FileHeader, FileName};
///
/// let name = FileName::new(b"data.bin")?;
/// let header = FileHeader::new(name, Some(5), 0o644, (0, 0))?;
/// assert_eq!(FileHeader::decode(&header.encode())?, header);
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    name: FileName,
    /// At most [`MAX_SIZE`].
    size: Option<u64>,
    /// At most [`MAX_MODE`].
    mode: u32,
    /// The nanoseconds are less than [`SECOND`].
    modified: (i64, u32),
}

/// First bytes of every encoded header.
const MAGIC: [u8; 8] = *b"IPC-FILE";
/// Changes with every change of the layout below.
const VERSION: u32 = 1;
/// The size that says "unknown".
const UNKNOWN: u64 = u64::MAX;
/// The greatest size of a file, in bytes.
const MAX_SIZE: u64 = i64::MAX as u64;
/// All permission bits.
const MAX_MODE: u32 = 0o7777;
/// Nanoseconds in a second.
const SECOND: u32 = 1_000_000_000;

impl FileHeader {
    /// Length of an encoded header in bytes.
    ///
    /// | offset | bytes | field |
    /// | --- | --- | --- |
    /// | 0 | 8 | magic, `IPC-FILE` |
    /// | 8 | 4 | version, 1 |
    /// | 12 | 4 | mode |
    /// | 16 | 8 | size, all ones if unknown |
    /// | 24 | 8 | modification time, seconds |
    /// | 32 | 4 | modification time, nanoseconds |
    /// | 36 | 4 | length of the name |
    /// | 40 | 256 | name, padded with zeros |
    ///
    /// Numbers are little-endian.
    pub const ENCODED_LENGTH: usize = 296;

    /// The header of a file called `name`, of `size` bytes, or `None` where only the end will tell
    /// (standard input, FIFOs, `/proc`), with the permission bits `mode`, last modified at
    /// `modified`: seconds since the epoch, and nanoseconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size above `i64::MAX`, which no file has, a mode above `0o7777`, and
    /// nanoseconds of a second or more.
    pub fn new(
        name: FileName,
        size: Option<u64>,
        mode: u32,
        modified: (i64, u32),
    ) -> Result<Self, Error> {
        let invalid = |reason| Err(Error::Invalid { what: "header", reason });
        if size.is_some_and(|size| size > MAX_SIZE) {
            return invalid("the size is greater than that of any file");
        }
        if mode > MAX_MODE {
            return invalid("the mode has more than permission bits");
        }
        if modified.1 >= SECOND {
            return invalid("the nanoseconds exceed a second");
        }
        Ok(Self { name, size, mode, modified })
    }

    /// The same under another name.
    #[must_use]
    pub fn with_name(self, name: FileName) -> Self {
        Self { name, ..self }
    }

    /// The same with other permission bits.
    ///
    /// # Errors
    /// As [`FileHeader::new`].
    pub fn with_mode(self, mode: u32) -> Result<Self, Error> {
        Self::new(self.name, self.size, mode, self.modified)
    }

    /// Base name of the source.
    #[must_use]
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// Size in bytes, if it is known before the end.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Time of last modification: seconds since the epoch, and nanoseconds below 10^9.
    #[must_use]
    pub fn modified(&self) -> (i64, u32) {
        self.modified
    }

    /// The header as it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::ENCODED_LENGTH] {
        let name = self.name.as_bytes();
        let length = u32::try_from(name.len()).expect("a file name has 255 bytes at most");
        let mut bytes = [0; Self::ENCODED_LENGTH];
        let mut rest = &mut bytes[..];
        for field in [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &self.mode.to_le_bytes(),
            &self.size.unwrap_or(UNKNOWN).to_le_bytes(),
            &self.modified.0.to_le_bytes(),
            &self.modified.1.to_le_bytes(),
            &length.to_le_bytes(),
            name,
        ] {
            let (to, behind) = rest.split_at_mut(field.len());
            to.copy_from_slice(field);
            rest = behind;
        }
        bytes
    }

    /// Reads a header that somebody else wrote, believing nothing of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a foreign magic or version, numbers out of range, or a name that is
    /// not a plain file name.
    pub fn decode(bytes: &[u8; Self::ENCODED_LENGTH]) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { what: "header", reason };
        let mut fields = Fields(bytes);
        if fields.take()? != MAGIC {
            return Err(invalid("it does not begin with IPC-FILE"));
        }
        if u32::from_le_bytes(fields.take()?) != VERSION {
            return Err(invalid("it is of another version"));
        }
        let mode = u32::from_le_bytes(fields.take()?);
        let size = u64::from_le_bytes(fields.take()?);
        let seconds = i64::from_le_bytes(fields.take()?);
        let nanoseconds = u32::from_le_bytes(fields.take()?);
        let length = u32::from_le_bytes(fields.take()?);
        let (name, padding) = usize::try_from(length)
            .ok()
            .and_then(|length| fields.0.split_at_checked(length))
            .ok_or_else(|| invalid("the name is longer than its field"))?;
        let name = FileName::new(name)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(invalid("there is something behind the name"));
        }
        Self::new(name, (size != UNKNOWN).then_some(size), mode, (seconds, nanoseconds))
    }
}

/// The bytes of a header that are not read yet.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Error::Invalid { what: "header", reason: "it is too short" })?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> FileHeader {
        FileHeader::new(name(), Some(5), 0o644, (1, 2)).unwrap()
    }

    fn name() -> FileName {
        FileName::new(b"data.bin").unwrap()
    }

    /// The encoded header with the bytes at `offset` replaced.
    fn forged(offset: usize, bytes: &[u8]) -> [u8; FileHeader::ENCODED_LENGTH] {
        let mut encoded = header().encode();
        encoded[offset..offset + bytes.len()].copy_from_slice(bytes);
        encoded
    }

    #[test]
    fn lies_are_refused() {
        for (offset, bytes, about) in [
            (0, &b"X"[..], "IPC-FILE"),
            (8, &[9], "version"),
            (15, &[1], "mode"),
            (16, &[0, 0, 0, 0, 0, 0, 0, 0x80], "size"),
            (32, &[0xff; 4], "nanoseconds"),
            (36, &[1, 1, 0, 0], "longer than its field"),
            (36, &[0xff; 4], "longer than its field"),
            (36, &[0; 4], "empty"),
            (40, b"../x.bin", "slash"),
            (44, &[0], "NUL"),
            (295, b"x", "behind the name"),
        ] {
            let error = FileHeader::decode(&forged(offset, bytes)).unwrap_err().to_string();
            assert!(error.contains(about), "{about}: {error}");
        }
    }

    #[test]
    fn what_would_not_be_decoded_cannot_be_made() {
        for (size, mode, nanoseconds, about) in [
            (Some(1 << 63), 0, 0, "size"),
            (Some(u64::MAX), 0, 0, "size"),
            (None, 0o10_000, 0, "mode"),
            (None, 0o100_644, 0, "mode"),
            (None, u32::MAX, 0, "mode"),
            (None, 0, 1_000_000_000, "nanoseconds"),
            (None, 0, u32::MAX, "nanoseconds"),
        ] {
            let made = FileHeader::new(name(), size, mode, (0, nanoseconds));
            let error = made.unwrap_err().to_string();
            assert!(error.contains(about), "{about}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_can_be_made_is_decoded_as_it_was(
            size: Option<u64>,
            mode: u32,
            seconds: i64,
            nanoseconds: u32,
        ) {
            if let Ok(header) = FileHeader::new(name(), size, mode, (seconds, nanoseconds)) {
                prop_assert_eq!(FileHeader::decode(&header.encode()).unwrap(), header);
            }
        }

        #[test]
        fn decode_returns_what_encode_was_given(
            name in "[^/\0]{1,60}".prop_filter("a name", |name| name != "." && name != ".."),
            size in proptest::option::of(0..=MAX_SIZE),
            mode in 0..=MAX_MODE,
            seconds: i64,
            nanoseconds in 0..SECOND,
        ) {
            let name = FileName::new(name.as_bytes()).unwrap();
            let header = FileHeader::new(name, size, mode, (seconds, nanoseconds)).unwrap();
            prop_assert_eq!(FileHeader::decode(&header.encode()).unwrap(), header);
        }

        #[test]
        fn rubbish_behind_a_good_start_never_panics(rubbish in proptest::collection::vec(any::<u8>(), 284)) {
            let _ = FileHeader::decode(forged(12, &rubbish).as_slice().try_into().unwrap());
        }
    }
}
