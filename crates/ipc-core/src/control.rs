//! The control channel: what one peer and the server say to each other beside the bytes.
//!
//! ```text
//! peer                                   server
//!   | -- Consumed { bytes, file, ... } ->  |   all bytes are stored, without a name
//!   |                                      |   checks: all sent? source unchanged?
//!   | <------------------------- Commit -- |
//!   |   gives the file its final name      |
//!   | -- Named ------------------------->  |   only if the name is to be on the disk as well
//!   |   syncs its directory                |
//!   | -- Stored ------------------------>  |
//! ```
//!
//! At any point the peer may say `Failed` instead, and either side may find the channel closed,
//! which is how it learns of the other's death. Each message is one packet of an
//! `AF_UNIX`/`SOCK_SEQPACKET` pair, so none is ever seen in part.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::io::{retry, wait_ready};
use crate::unnamed::FileId;
use crate::{Digest, Error, Failure};

/// What a peer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromPeer {
    /// It has received and stored this many bytes in this file, and there will be no more. If it was asked
    /// to, it has read them back.
    Consumed { bytes: u64, file: FileId, digest: Option<Digest> },
    /// Its file has its final name, which is not on the disk yet.
    Named,
    /// Its file has its final name, and there is no more to do.
    Stored,
    /// It gave up.
    Failed(Failure),
}

/// The longest message, in bytes; a failure's text is cut to fit. The longest path there is fits, with
/// every byte of it escaped as `\xFF`, and the reason behind it.
const MESSAGE_MAX: usize = 20 * 1024;

const CONSUMED: u8 = 1;
const STORED: u8 = 2;
const FAILED: u8 = 3;
const COMMIT: u8 = 4;
const NAMED: u8 = 5;

impl FromPeer {
    /// The message as it travels: a byte for its kind, then its fields, little-endian.
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Consumed { bytes, file: FileId { device, inode }, digest } => {
                let mut message = vec![CONSUMED];
                message.extend([bytes, device, inode].iter().flat_map(|field| field.to_le_bytes()));
                message.extend(digest.iter().flat_map(Digest::as_bytes));
                message
            }
            Self::Named => vec![NAMED],
            Self::Stored => vec![STORED],
            Self::Failed(failure) => {
                let mut message = vec![FAILED];
                message.extend_from_slice(&failure.errno.unwrap_or(0).to_le_bytes());
                let mut room = MESSAGE_MAX - message.len();
                while !failure.message.is_char_boundary(room.min(failure.message.len())) {
                    room -= 1;
                }
                message.extend(failure.message.bytes().take(room));
                message
            }
        }
    }

    /// Reads a message, believing nothing of it.
    fn decode(message: &[u8]) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { what: "control message", reason };
        let (kind, fields) = message.split_first().ok_or_else(|| invalid("it is empty"))?;
        match *kind {
            CONSUMED => {
                let wrong = || invalid("its length is wrong");
                let (bytes, fields) = fields.split_first_chunk().ok_or_else(wrong)?;
                let (device, fields) = fields.split_first_chunk().ok_or_else(wrong)?;
                let (inode, digest) = fields.split_first_chunk().ok_or_else(wrong)?;
                let [bytes, device, inode] =
                    [bytes, device, inode].map(|it| u64::from_le_bytes(*it));
                let digest = match digest {
                    [] => None,
                    digest => Some(Digest::from_bytes(digest.try_into().map_err(|_| wrong())?)),
                };
                Ok(Self::Consumed { bytes, file: FileId { device, inode }, digest })
            }
            NAMED if fields.is_empty() => Ok(Self::Named),
            STORED if fields.is_empty() => Ok(Self::Stored),
            FAILED => {
                let (errno, text) =
                    fields.split_first_chunk().ok_or_else(|| invalid("it is too short"))?;
                let errno = i32::from_le_bytes(*errno);
                let text = String::from_utf8_lossy(text);
                // It ends up on a terminal, as one line.
                let message = text.replace(char::is_control, "\u{fffd}");
                Ok(Self::Failed(Failure { message, errno: (errno != 0).then_some(errno) }))
            }
            _ => Err(invalid("its kind is unknown")),
        }
    }
}

/// Makes a channel for one peer.
pub(crate) fn channel() -> Result<(PeerLink, ServerLink), Error> {
    let (server, peer) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::system("create a control channel"))?;
    Ok((PeerLink(server), ServerLink(peer)))
}

/// The server's end: the link to one peer.
#[derive(Debug)]
pub(crate) struct PeerLink(OwnedFd);

/// What the server finds when it looks for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The peer said this.
    Message(FromPeer),
    /// Nothing, so far.
    Nothing,
    /// The peer has ended, or closed its end.
    Closed,
}

impl PeerLink {
    /// Takes the next message without waiting for one.
    pub(crate) fn hear(&self) -> Result<Heard, Error> {
        let mut buffer = [MaybeUninit::uninit(); MESSAGE_MAX];
        let mut was_reset = false;
        let received = loop {
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                // It ended with a commit unread. What it said before comes after that.
                Err(Errno::CONNRESET) if !was_reset => was_reset = true,
                Ok(((message, _), _)) => break Ok(&*message),
                Err(errno) => break Err(errno),
            }
        };
        match received {
            Ok([]) | Err(Errno::CONNRESET) => Ok(Heard::Closed),
            Ok(message) => FromPeer::decode(message).map(Heard::Message),
            Err(Errno::AGAIN) => Ok(Heard::Nothing),
            Err(errno) => Err(Error::system("read a control channel")(errno)),
        }
    }

    /// Tells the peer to give its file the final name. That a peer is gone already shows elsewhere.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        let flags = SendFlags::NOSIGNAL;
        match retry(&self.0, PollFlags::OUT, || rustix::net::send(&self.0, &[COMMIT], flags)) {
            Err(error) if !is_gone(&error) => Err(Error::system("tell a peer to commit")(error)),
            _ => Ok(()),
        }
    }
}

impl AsFd for PeerLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A peer's end: the link to the server.
#[derive(Debug)]
pub struct ServerLink(OwnedFd);

impl ServerLink {
    /// Whether the server still holds its end. Asks without waiting.
    ///
    /// # Errors
    /// [`Error::System`]
    pub fn server_lives(&self) -> Result<bool, Error> {
        // The server says nothing while bytes flow: whatever is readable then is the end.
        wait_ready(&self.0, PollFlags::IN, Some(Duration::ZERO))
            .map(|ended| !ended)
            .map_err(Error::system("ask for the server"))
    }

    /// Sends `message`.
    pub(crate) fn say(&self, message: &FromPeer) -> Result<(), Error> {
        let packet = message.encode();
        let sent = retry(&self.0, PollFlags::OUT, || {
            rustix::net::send(&self.0, &packet, SendFlags::NOSIGNAL)
        });
        match sent {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Err(Error::ServerGone),
            Err(error) => Err(Error::system("write to the control channel")(error)),
        }
    }

    /// Waits until the server says `Commit`.
    pub(crate) fn await_commit(&self) -> Result<(), Error> {
        let mut buffer = [0; 2];
        let received = retry(&self.0, PollFlags::IN, || {
            rustix::net::recv(&self.0, &mut buffer, RecvFlags::empty())
        });
        match received {
            Ok((0, _)) => Err(Error::ServerGone),
            Ok((1, _)) if buffer.first() == Some(&COMMIT) => Ok(()),
            Ok(_) => Err(Error::Invalid { what: "control message", reason: "it is no commit" }),
            Err(error) if is_gone(&error) => Err(Error::ServerGone),
            Err(error) => Err(Error::system("read the control channel")(error)),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsFd for ServerLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_message() -> impl Strategy<Value = FromPeer> {
        prop_oneof![
            (any::<[u64; 3]>(), any::<Option<[u8; Digest::LENGTH]>>()).prop_map(
                |([bytes, device, inode], digest)| FromPeer::Consumed {
                    bytes,
                    file: FileId { device, inode },
                    digest: digest.map(Digest::from_bytes),
                }
            ),
            Just(FromPeer::Named),
            Just(FromPeer::Stored),
            ("\\PC{0,200}", proptest::option::of(1..200))
                .prop_map(|(message, errno)| FromPeer::Failed(Failure { message, errno })),
        ]
    }

    proptest! {
        #[test]
        fn a_message_arrives_as_it_was_sent(message in any_message()) {
            let (server, peer) = channel().unwrap();
            peer.say(&message).unwrap();
            prop_assert_eq!(server.hear().unwrap(), Heard::Message(message));
            prop_assert_eq!(server.hear().unwrap(), Heard::Nothing);
        }

        #[test]
        fn rubbish_never_panics(message: Vec<u8>) {
            let _ = FromPeer::decode(&message);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let failure = Failure { message: "ä".repeat(MESSAGE_MAX), errno: None };
        let message = FromPeer::Failed(failure).encode();
        assert!(message.len() <= MESSAGE_MAX);
        let Ok(FromPeer::Failed(failure)) = FromPeer::decode(&message) else { panic!() };
        assert!(failure.message.chars().all(|character| character == 'ä'));
    }

    #[test]
    fn what_a_peer_says_at_last_is_heard_though_it_does_not_listen() {
        let (server, peer) = channel().unwrap();
        let failure = Failure { message: "no".to_owned(), errno: None };
        server.commit().unwrap();
        peer.say(&FromPeer::Failed(failure.clone())).unwrap();
        drop(peer);
        assert_eq!(server.hear().unwrap(), Heard::Message(FromPeer::Failed(failure)));
        assert_eq!(server.hear().unwrap(), Heard::Closed);
    }

    #[test]
    fn each_side_learns_that_the_other_is_gone() {
        let (server, peer) = channel().unwrap();
        assert!(peer.server_lives().unwrap());
        drop(server);
        assert!(!peer.server_lives().unwrap());
        assert!(matches!(peer.say(&FromPeer::Stored), Err(Error::ServerGone)));
        assert!(matches!(peer.await_commit(), Err(Error::ServerGone)));

        let (server, peer) = channel().unwrap();
        peer.say(&FromPeer::Stored).unwrap();
        drop(peer);
        assert_eq!(server.hear().unwrap(), Heard::Message(FromPeer::Stored));
        assert_eq!(server.hear().unwrap(), Heard::Closed);
        server.commit().unwrap();
    }
}
