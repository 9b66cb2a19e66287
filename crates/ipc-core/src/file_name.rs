//! A name that is safe to create in a directory, whoever sent it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::Error;
use crate::io::now;

/// The name of one file: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
///
/// The bytes need not be UTF-8. Joined to a directory it cannot lead out of it, which is why both
/// protocols decode names into this type and nothing else.
///
/// ```
/// use ipc_core::FileName;
///
/// assert!(FileName::new(b"data.bin").is_ok());
/// assert!(FileName::new(b"../data.bin").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileName(OsString);

impl FileName {
    /// The longest name that Linux file systems take, in bytes (`NAME_MAX`).
    pub const MAX_LENGTH: usize = 255;

    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`Error::NameTooLong`], or [`Error::Invalid`] for everything else that is no file's name.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = |reason| Err(Error::Invalid { what: "file name", reason });
        match bytes {
            b"" => invalid("it is empty"),
            b"." | b".." => invalid("it names a directory"),
            _ if bytes.contains(&b'/') => invalid("it contains a slash"),
            _ if bytes.contains(&0) => invalid("it contains a NUL byte"),
            _ if bytes.len() > Self::MAX_LENGTH => {
                Err(Error::NameTooLong { length: bytes.len(), limit: Self::MAX_LENGTH })
            }
            _ => Ok(Self(OsString::from_vec(bytes.to_vec()))),
        }
    }

    /// The last component of `path`.
    ///
    /// # Errors
    /// [`Error::NoFileName`] where there is none, as in `/` or `a/..`; else as [`FileName::new`].
    pub fn of_path(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().ok_or_else(|| Error::NoFileName(path.to_owned()))?;
        Self::new(name.as_bytes())
    }

    /// A random number for the name of a file that is made with `O_EXCL`: nothing can be there before it.
    ///
    /// Where the kernel gives no random numbers, it is made from the time, the process and its memory's place.
    /// Two of those that are alike cost a retry or an error, and no file.
    #[must_use]
    pub fn random_token() -> u64 {
        let mut bytes = [0; 8];
        let given = rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()));
        let given = given.is_ok_and(|length| length == bytes.len())
            // What seccomp filters and old kernels refuse may still be had as a file.
            || File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).is_ok();
        if given { u64::from_ne_bytes(bytes) } else { token_of_now() }
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A number that hardly comes again.
fn token_of_now() -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now().as_nanos().to_ne_bytes());
    hasher.update(&std::process::id().to_ne_bytes());
    hasher.update(&(&raw const hasher).addr().to_ne_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

impl AsRef<OsStr> for FileName {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl AsRef<Path> for FileName {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

/// Quoted, with control characters and bytes that are not UTF-8 escaped: fit for a message.
impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_leave_the_directory_is_refused() {
        for bytes in [&b""[..], b".", b"..", b"/", b"a/b", b"../a", b"a\0b", &[b'x'; 256]] {
            assert!(FileName::new(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn any_other_bytes_are_a_name() {
        for bytes in [&b" "[..], b"-n", b"a\nb", b"\xff\xfe", b"...", &[b'x'; 255]] {
            assert_eq!(FileName::new(bytes).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn a_path_without_a_last_name_is_refused() {
        for path in ["/", "..", "a/..", ""] {
            assert!(FileName::of_path(Path::new(path)).is_err(), "{path:?}");
        }
        assert_eq!(FileName::of_path(Path::new("/a/b c")).unwrap().as_bytes(), b"b c");
    }

    proptest! {
        #[test]
        fn a_name_joined_to_a_directory_stays_its_child(bytes: Vec<u8>) {
            if let Ok(name) = FileName::new(&bytes) {
                let joined = Path::new("dir").join(&name);
                prop_assert_eq!(joined.parent(), Some(Path::new("dir")));
                prop_assert_eq!(joined.components().count(), 2);
            }
        }
    }
}
