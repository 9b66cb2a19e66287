//! Entry points for `fuzz/`, built by cargo-fuzz only: each takes what a hostile sender may send and
//! panics if it gets through with it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::net::SendFlags;

use crate::control::{Heard, channel};
use crate::{DirectoryTemplate, Error, FileHeader, FileName, NameTemplate, PeerId};

/// `data` is an encoded header, cut or padded with zeros to its length.
///
/// What decodes is the encoding of what it decoded to, and its name is one file's.
pub fn header(data: &[u8]) {
    let mut bytes = [0; FileHeader::ENCODED_LENGTH];
    bytes.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    if let Ok(header) = FileHeader::decode(&bytes) {
        assert_eq!(header.encode(), bytes, "{header:?} has a second encoding");
        assert_is_base_name(header.name());
    }
}

/// `data` is a process id (4 bytes), a peer's number (2), the length of a file's name (1), this name,
/// and the text of a template.
///
/// A final name is one file's or too long. Its fields are what the template says that it has. Text
/// with its braces doubled stands for itself.
pub fn templates(data: &[u8]) {
    let Some((&[p, i, d, z, low, high, length], rest)) = data.split_first_chunk() else { return };
    let (pid, peer) = (u32::from_le_bytes([p, i, d, z]), u16::from_le_bytes([low, high]));
    let (name, text) = rest.split_at(rest.len().min(length.into()));
    let (peer, text) = (PeerId(peer.into()), OsStr::from_bytes(text));
    if let (Ok(name), Ok(template)) = (FileName::new(name), NameTemplate::new(text)) {
        name_template(&template, peer, pid, &name);
    }
    if let Ok(template) = DirectoryTemplate::new(text) {
        directory_template(&template, peer);
    }
    escaped_text(text);
}

fn name_template(template: &NameTemplate, peer: PeerId, pid: u32, name: &FileName) {
    let render = |peer, pid| match template.render(peer, pid, name) {
        Ok(rendered) => Some(rendered),
        Err(Error::NameTooLong { .. }) => None,
        Err(error) => panic!("{template:?} was accepted, but {error}"),
    };
    let Some(rendered) = render(peer, pid) else { return };
    assert_is_base_name(&rendered);
    let other_pid = render(peer, pid ^ 1).is_some_and(|other| other != rendered);
    assert_eq!(other_pid, template.needs_pid(), "{template:?} and another process id");
    if !template.needs_pid() {
        let other_peer = render(PeerId(peer.0 ^ 1), pid).is_some_and(|other| other != rendered);
        assert_eq!(other_peer, template.tells_peers_apart(), "{template:?} and another peer");
    }
}

fn directory_template(template: &DirectoryTemplate, peer: PeerId) {
    let path = template.render(peer);
    assert!(!path.as_os_str().is_empty() && !path.as_os_str().as_bytes().contains(&0), "{path:?}");
    let differs = path != template.render(PeerId(peer.0 ^ 1));
    // Two texts may be one path: `a//{peer}` is not `a/{peer}`, but both tell the peers apart.
    assert_eq!(differs, template.tells_peers_apart(), "{template:?}");
}

/// Braces that are doubled stand for themselves, so that every name and path can be asked for.
fn escaped_text(text: &OsStr) {
    let double = |byte: &u8| vec![*byte; if matches!(byte, b'{' | b'}') { 2 } else { 1 }];
    let escaped: Vec<u8> = text.as_bytes().iter().flat_map(double).collect();
    let escaped = OsStr::from_bytes(&escaped);
    if let Ok(name) = FileName::new(text.as_bytes()) {
        let rendered = NameTemplate::new(escaped).map(|it| it.render(PeerId(0), 1, &name).ok());
        assert_eq!(rendered, Ok(Some(name)));
    }
    if !text.is_empty() && !text.as_bytes().contains(&0) {
        let rendered = DirectoryTemplate::new(escaped).map(|it| it.render(PeerId(0)));
        assert_eq!(rendered.as_deref(), Ok(Path::new(text)));
        assert_eq!(DirectoryTemplate::from(PathBuf::from(text)).render(PeerId(0)), text);
    }
}

/// `data` is one packet, first from a peer to the server, then from the server to a peer.
///
/// The server understands it as something that it would itself be told as such, or not at all; the
/// peer takes nothing but the one commit for a commit.
pub fn control(data: &[u8]) {
    // A text whose bytes are no UTF-8 grows while it is read, and is cut once it is too long.
    let data = data.get(..4096).unwrap_or(data);
    let send = SendFlags::NOSIGNAL;
    let (server, peer) = channel().expect("there are descriptors");
    rustix::net::send(&peer, data, send).expect("a packet fits into the channel");
    if let Ok(Heard::Message(message)) = server.hear() {
        peer.say(&message).expect("the server lives");
        assert_eq!(server.hear().expect("it was understood before"), Heard::Message(message));
    }
    rustix::net::send(&server, data, send).expect("a packet fits into the channel");
    let committed = peer.await_commit().is_ok();
    server.commit().expect("the peer lives");
    assert!(peer.await_commit().is_ok());
    assert_eq!(committed, data == COMMIT, "{data:?}");
}

/// The packet that is a commit.
const COMMIT: [u8; 1] = [4];

/// Joined to a directory the name is a child of it, and it is neither too long nor cut by a NUL.
fn assert_is_base_name(name: &FileName) {
    let bytes = name.as_bytes();
    assert!((1..=FileName::MAX_LENGTH).contains(&bytes.len()), "{name:?}");
    assert!(!bytes.contains(&0) && !bytes.contains(&b'/'), "{name:?}");
    assert!(bytes != b"." && bytes != b"..", "{name:?}");
    assert_eq!(Path::new("directory").join(name).parent(), Some(Path::new("directory")));
}
