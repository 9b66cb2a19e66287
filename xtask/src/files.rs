//! Files to copy, and whether another file is a copy.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file of so many bytes in which pieces that changed places show.
pub(crate) fn write_source(path: &Path, bytes: u64) -> Result<()> {
    let write = || {
        let mut file = BufWriter::new(File::create_new(path)?);
        let (mut piece, mut left) = (noise(), bytes);
        while left > 0 {
            // What is left tells each piece from all others.
            piece[..8].copy_from_slice(&left.to_le_bytes());
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&piece[..length])?;
            left -= length as u64;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write {path:?}"))
}

/// Bytes without a pattern; their number is prime, so that no block or page is filled with a whole
/// number of them.
fn noise() -> [u8; 4099] {
    let mut state: u32 = 1;
    [(); 4099].map(|()| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[3]
    })
}

/// Offset of the first byte that two files do not share.
pub(crate) fn first_difference(one: &Path, other: &Path) -> io::Result<Option<u64>> {
    const PIECE: u64 = 1 << 18;
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for offset in (0..).step_by(1 << 18) {
        for (file, bytes) in [(&mut one, &mut left), (&mut other, &mut right)] {
            bytes.clear();
            file.take(PIECE).read_to_end(bytes)?;
        }
        if left != right {
            let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
            return Ok(Some(offset + same as u64));
        }
        if left.is_empty() {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        let mut bytes = vec![7; 600_000];
        fs::write(&one, &bytes).unwrap();
        fs::write(&other, &bytes).unwrap();
        assert_eq!(first_difference(&one, &other).unwrap(), None);
        for length in [0, 262_144, 599_999] {
            fs::write(&other, &bytes[..length]).unwrap();
            assert_eq!(first_difference(&one, &other).unwrap(), Some(length as u64));
        }
        bytes[300_000] = 8;
        fs::write(&other, &bytes).unwrap();
        assert_eq!(first_difference(&one, &other).unwrap(), Some(300_000));
    }
}
