//! BLAKE3 digests of files.

use std::fmt;

/// The BLAKE3 digest of a file.
///
/// Its text is that of `b3sum`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; Digest::LENGTH]);

impl Digest {
    /// Length in bytes.
    pub const LENGTH: usize = blake3::OUT_LEN;

    /// The digest with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A digest in the making.
#[derive(Debug, Default)]
pub(crate) struct Hasher(Box<blake3::Hasher>);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// As so many bytes of 0.
    pub(crate) fn update_with_zeros(&mut self, mut length: u64) {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while length > 0 {
            let piece = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
            self.update(ZEROS.get(..piece).unwrap_or_default());
            length -= piece as u64;
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
