//! What the server tells every peer about the source before its bytes: the same for both protocols.

use crate::{Error, FileName};

/// The source as announced to the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// Base name of the source.
    pub name: FileName,
    /// Size in bytes; `None` where only the end will tell (standard input, FIFOs, `/proc`).
    pub size: Option<u64>,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Time of last modification: seconds since the epoch, and nanoseconds below 10^9.
    pub modified: (i64, u32),
}

/// First bytes of every encoded header.
const MAGIC: [u8; 8] = *b"IPC-FILE";
/// Changes with every change of the layout below.
const VERSION: u32 = 1;
/// The size that says "unknown".
const UNKNOWN: u64 = u64::MAX;

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

    /// The header as it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::ENCODED_LENGTH] {
        let name = self.name.as_bytes();
        let mut fields = Vec::with_capacity(Self::ENCODED_LENGTH);
        fields.extend_from_slice(&MAGIC);
        fields.extend_from_slice(&VERSION.to_le_bytes());
        fields.extend_from_slice(&self.mode.to_le_bytes());
        fields.extend_from_slice(&self.size.unwrap_or(UNKNOWN).to_le_bytes());
        fields.extend_from_slice(&self.modified.0.to_le_bytes());
        fields.extend_from_slice(&self.modified.1.to_le_bytes());
        fields.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        fields.extend_from_slice(name);
        let mut bytes = [0; Self::ENCODED_LENGTH];
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
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
        if mode > 0o7777 {
            return Err(invalid("the mode has more than permission bits"));
        }
        let size = u64::from_le_bytes(fields.take()?);
        let seconds = i64::from_le_bytes(fields.take()?);
        let nanoseconds = u32::from_le_bytes(fields.take()?);
        if nanoseconds >= 1_000_000_000 {
            return Err(invalid("the nanoseconds exceed a second"));
        }
        let length = u32::from_le_bytes(fields.take()?);
        let (name, padding) = usize::try_from(length)
            .ok()
            .and_then(|length| fields.0.split_at_checked(length))
            .ok_or_else(|| invalid("the name is longer than its field"))?;
        let name = FileName::new(name)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(invalid("there is something behind the name"));
        }
        Ok(Self {
            name,
            size: (size != UNKNOWN).then_some(size),
            mode,
            modified: (seconds, nanoseconds),
        })
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
        FileHeader {
            name: FileName::new(b"data.bin").unwrap(),
            size: Some(5),
            mode: 0o644,
            modified: (1, 2),
        }
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

    proptest! {
        #[test]
        fn decode_returns_what_encode_was_given(
            name in "[^/\0]{1,60}".prop_filter("a name", |name| name != "." && name != ".."),
            size in proptest::option::of(0..u64::MAX),
            mode in 0..=0o7777u32,
            seconds: i64,
            nanoseconds in 0..1_000_000_000u32,
        ) {
            let name = FileName::new(name.as_bytes()).unwrap();
            let header = FileHeader { name, size, mode, modified: (seconds, nanoseconds) };
            prop_assert_eq!(FileHeader::decode(&header.encode()).unwrap(), header);
        }

        #[test]
        fn rubbish_behind_a_good_start_never_panics(rubbish in proptest::collection::vec(any::<u8>(), 284)) {
            let _ = FileHeader::decode(forged(12, &rubbish).as_slice().try_into().unwrap());
        }
    }
}
