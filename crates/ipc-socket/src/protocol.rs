//! What travels through the socket, apart from how it is sent: frames and their lengths.
//!
//! The header before them is [`FileHeader`](ipc_core::FileHeader), which other ways share.

use crate::Error;

/// Length of a frame's length, in bytes.
pub(crate) const PREFIX: usize = 8;

/// The longest frame, in bytes: what the kernel moves with one call at most, so that a frame of
/// any length can be one call.
pub(crate) const MAX_FRAME: u64 = 0x7fff_f000;

/// The frame that ends a file.
pub(crate) const END: [u8; PREFIX] = [0; PREFIX];

/// What stands before a frame of `length` bytes.
pub(crate) fn prefix(length: u64) -> [u8; PREFIX] {
    length.to_le_bytes()
}

/// The receiver's view of the frames: checks each length before a byte of it is believed.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Size of the file by its header, in bytes; `None` if only the end will tell.
    announced: Option<u64>,
    /// Bytes in all frames so far.
    received: u64,
}

impl Frames {
    pub(crate) fn new(announced: Option<u64>) -> Self {
        Self { announced, received: 0 }
    }

    /// Length of the frame that `prefix` begins, in bytes; 0 is the end of the file.
    ///
    /// # Errors
    /// [`Error::FrameTooLong`], and [`Error::WrongSize`] as soon as the announced size cannot come
    /// true any more.
    pub(crate) fn next(&mut self, prefix: [u8; PREFIX]) -> Result<u64, Error> {
        let length = u64::from_le_bytes(prefix);
        if length > MAX_FRAME {
            return Err(Error::FrameTooLong { length, limit: MAX_FRAME });
        }
        self.received = self.received.saturating_add(length);
        let received = self.received;
        match self.announced {
            Some(announced) if received > announced || (length == 0 && received < announced) => {
                Err(Error::WrongSize { received, announced })
            }
            _ => Ok(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a receiver makes of frames of these lengths and the end after them.
    fn read(announced: Option<u64>, lengths: &[u64]) -> Result<u64, Error> {
        let mut frames = Frames::new(announced);
        for &length in lengths {
            assert_eq!(frames.next(prefix(length))?, length);
        }
        frames.next(END)?;
        Ok(frames.received)
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        for (announced, lengths, about) in [
            (None, &[MAX_FRAME + 1][..], "2147479553 bytes, 2147479552 are allowed"),
            (None, &[u64::MAX], "18446744073709551615 bytes"),
            (Some(10), &[11], "11 bytes of a file that was announced with 10"),
            (Some(10), &[4, 7], "11 bytes of a file that was announced with 10"),
            (Some(10), &[4, 5], "9 bytes of a file that was announced with 10"),
            (Some(1), &[], "0 bytes of a file that was announced with 1"),
        ] {
            let error = read(announced, lengths).unwrap_err().to_string();
            assert!(error.contains(about), "{about}: {error}");
        }
    }

    #[test]
    fn the_longest_frame_is_accepted() {
        assert_eq!(read(None, &[MAX_FRAME, 1]).unwrap(), MAX_FRAME + 1);
    }

    proptest! {
        #[test]
        fn every_split_of_a_file_is_read_whole(
            lengths in proptest::collection::vec(1..=MAX_FRAME, 0..20),
            is_announced: bool,
        ) {
            let total = lengths.iter().sum();
            prop_assert_eq!(read(is_announced.then_some(total), &lengths).unwrap(), total);
        }

        #[test]
        fn rubbish_never_panics_nor_exceeds_what_is_allowed(
            prefixes: Vec<[u8; PREFIX]>,
            announced: Option<u64>,
        ) {
            let mut frames = Frames::new(announced);
            for prefix in prefixes {
                match frames.next(prefix) {
                    Ok(length) => prop_assert!(length <= announced.unwrap_or(MAX_FRAME).min(MAX_FRAME)),
                    Err(_) => break,
                }
            }
        }
    }
}
