//! Names with fields in them: `pid-{pid}_{name}` and `disk-{peer}/received`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, FileName, PeerId};

/// How a peer's received file is named: text with the fields `{pid}`, `{peer}` and `{name}`.
///
/// `{{` and `}}` stand for the braces themselves.
///
/// ```
/// use ipc_core::{FileName, NameTemplate, PeerId};
///
/// let template = NameTemplate::default();
/// let name = template.render(PeerId(0), 4711, &FileName::new(b"data.bin")?)?;
/// assert_eq!(name.as_bytes(), b"pid-4711_data.bin");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(Vec<Piece>);

/// Where received files go: a path in which the field `{peer}` may stand.
///
/// ```
/// use ipc_core::{DirectoryTemplate, PeerId};
///
/// let template = DirectoryTemplate::new("/mnt/disk{peer}".as_ref())?;
/// assert_eq!(template.render(PeerId(2)).as_os_str(), "/mnt/disk2");
/// # Ok::<(), ipc_core::TemplateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryTemplate(Vec<Piece>);

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// `{...}` holds a word that is no field here.
    #[error("unknown field {{{0}}}: use {1}, or {{{{ and }}}} for braces")]
    UnknownField(String, &'static str),
    /// A brace without its partner.
    #[error("a brace without its partner: use {{{{ or }}}} for a brace itself")]
    LoneBrace,
    /// No file can have such a name.
    #[error("a file name is not empty, is not . or .., and has no / or NUL in it")]
    NotAName,
    /// A directory needs a path.
    #[error("a directory's path is not empty and has no NUL in it")]
    NotAPath,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Pid,
    Peer,
    Name,
}

impl NameTemplate {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`TemplateError`] for an unknown field, a lone brace, or text that no file name can have.
    pub fn new(text: &OsStr) -> Result<Self, TemplateError> {
        let pieces = parse(text.as_bytes(), |field| match field {
            b"pid" => Ok(Piece::Pid),
            b"peer" => Ok(Piece::Peer),
            b"name" => Ok(Piece::Name),
            _ => Err("{pid}, {peer} or {name}"),
        })?;
        let fits = match pieces.as_slice() {
            [] => false,
            [Piece::Text(whole)] => !matches!(whole.as_slice(), b"." | b".."),
            _ => true,
        };
        let clean = |piece: &Piece| match piece {
            Piece::Text(bytes) => !bytes.iter().any(|&byte| byte == b'/' || byte == 0),
            _ => true,
        };
        if fits && pieces.iter().all(clean) {
            Ok(Self(pieces))
        } else {
            Err(TemplateError::NotAName)
        }
    }

    /// Whether a number of the peer's own is in the name. With two side by side, two peers can still get
    /// one name if process ids begin anew in mid-run; [`copy`](crate::copy()) fails the second then.
    #[must_use]
    pub fn tells_peers_apart(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Pid | Piece::Peer))
    }

    /// Whether the name cannot be known before the peer's process exists.
    #[must_use]
    pub fn needs_pid(&self) -> bool {
        self.0.contains(&Piece::Pid)
    }

    /// Whether the name of the source is part of it.
    #[must_use]
    pub fn needs_name(&self) -> bool {
        self.0.contains(&Piece::Name)
    }

    /// The final name for one peer.
    ///
    /// # Errors
    /// What [`FileName::new`] says of the result, its length above all.
    pub fn render(&self, peer: PeerId, pid: u32, name: &FileName) -> Result<FileName, Error> {
        FileName::new(&render(&self.0, peer, pid, name.as_bytes()))
    }
}

/// `pid-{pid}_{name}`
impl Default for NameTemplate {
    fn default() -> Self {
        Self(vec![
            Piece::Text(b"pid-".to_vec()),
            Piece::Pid,
            Piece::Text(b"_".to_vec()),
            Piece::Name,
        ])
    }
}

impl FromStr for NameTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Self::new(text.as_ref())
    }
}

impl DirectoryTemplate {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`TemplateError`] for an unknown field, a lone brace, or text that is no path.
    pub fn new(text: &OsStr) -> Result<Self, TemplateError> {
        let pieces = parse(text.as_bytes(), |field| match field {
            b"peer" => Ok(Piece::Peer),
            _ => Err("{peer}"),
        })?;
        let has_nul = |piece: &Piece| matches!(piece, Piece::Text(bytes) if bytes.contains(&0));
        if pieces.is_empty() || pieces.iter().any(has_nul) {
            return Err(TemplateError::NotAPath);
        }
        Ok(Self(pieces))
    }

    /// Whether every peer has a directory of its own.
    #[must_use]
    pub fn tells_peers_apart(&self) -> bool {
        self.0.contains(&Piece::Peer)
    }

    /// The directory of one peer.
    #[must_use]
    pub fn render(&self, peer: PeerId) -> PathBuf {
        OsString::from_vec(render(&self.0, peer, 0, b"")).into()
    }
}

/// The path as it is, braces and all.
impl From<PathBuf> for DirectoryTemplate {
    fn from(path: PathBuf) -> Self {
        Self(vec![Piece::Text(path.into_os_string().into_vec())])
    }
}

impl FromStr for DirectoryTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Self::new(text.as_ref())
    }
}

/// Splits `text` at its fields; `field` maps a field's word to its piece or says what may stand there.
fn parse(
    text: &[u8],
    field: impl Fn(&[u8]) -> Result<Piece, &'static str>,
) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [] => break,
            [b'{', b'{', tail @ ..] | [b'}', b'}', tail @ ..] => {
                literal.extend(rest.first());
                rest = tail;
            }
            [b'{', tail @ ..] => {
                let end = tail.iter().position(|&byte| byte == b'}');
                let (word, after) = end
                    .and_then(|end| tail.split_at_checked(end))
                    .ok_or(TemplateError::LoneBrace)?;
                let piece = field(word).map_err(|fields| {
                    TemplateError::UnknownField(String::from_utf8_lossy(word).into_owned(), fields)
                })?;
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
                rest = after.get(1..).unwrap_or_default();
            }
            [b'}', ..] => return Err(TemplateError::LoneBrace),
            [byte, tail @ ..] => {
                literal.push(*byte);
                rest = tail;
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

fn render(pieces: &[Piece], peer: PeerId, pid: u32, name: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(bytes) => text.extend_from_slice(bytes),
            Piece::Pid => text.extend_from_slice(pid.to_string().as_bytes()),
            Piece::Peer => text.extend_from_slice(peer.to_string().as_bytes()),
            Piece::Name => text.extend_from_slice(name),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rendered(template: &str) -> Vec<u8> {
        let name = FileName::new(b"data").unwrap();
        let template: NameTemplate = template.parse().unwrap();
        template.render(PeerId(3), 42, &name).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn fields_are_filled_in() {
        for (template, expected) in [
            ("pid-{pid}_{name}", "pid-42_data"),
            ("{peer}", "3"),
            ("{{{peer}}}", "{3}"),
            ("a{{pid}}", "a{pid}"),
            (".{name}{name}", ".datadata"),
        ] {
            assert_eq!(rendered(template), expected.as_bytes(), "{template}");
        }
        assert_eq!(NameTemplate::default(), "pid-{pid}_{name}".parse().unwrap());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        use TemplateError::{LoneBrace, NotAName, NotAPath, UnknownField};
        for (template, expected) in [
            ("", NotAName),
            (".", NotAName),
            ("..", NotAName),
            ("a/{name}", NotAName),
            ("{", LoneBrace),
            ("}", LoneBrace),
            ("{pid", LoneBrace),
            ("{pdi}", UnknownField("pdi".into(), "{pid}, {peer} or {name}")),
        ] {
            assert_eq!(template.parse::<NameTemplate>(), Err(expected), "{template}");
        }
        assert_eq!("".parse::<DirectoryTemplate>(), Err(NotAPath));
        assert_eq!("{pid}".parse::<DirectoryTemplate>(), Err(UnknownField("pid".into(), "{peer}")));
    }

    #[test]
    fn peers_are_told_apart_by_pid_or_number_only() {
        for (template, apart) in
            [("{pid}", true), ("{peer}", true), ("{name}", false), ("x", false)]
        {
            assert_eq!(
                template.parse::<NameTemplate>().unwrap().tells_peers_apart(),
                apart,
                "{template}"
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_it_accepts_renders_to_a_name(text: Vec<u8>, pid: u32) {
            if let Ok(template) = NameTemplate::new(OsStr::from_bytes(&text)) {
                let name = FileName::new(b"n").unwrap();
                match template.render(PeerId(1), pid, &name) {
                    Ok(_) | Err(Error::NameTooLong { .. }) => {}
                    Err(error) => prop_assert!(false, "{error}"),
                }
            }
        }
    }
}
