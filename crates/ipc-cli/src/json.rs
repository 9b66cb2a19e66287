//! `--json`: what came of a run as one JSON object. docs/json.md says what each field means.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ipc_core::{Failure, OnSlow, Outcome, PeerReport, Report, Source};
use ipc_shm::{BlockCount, BlockSize};
use nix::errno::Errno;
use serde::Serialize;

use crate::run::{Ended, rate};

/// Raised when a field goes, or comes to mean something else. A new field does not raise it.
const SCHEMA: u32 = 1;

/// The object.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'r> {
    schema: u32,
    program: &'static str,
    version: &'static str,
    success: bool,
    source: SourceFields,
    digest: Option<String>,
    seconds: f64,
    /// Bytes per second that were stored, all peers together.
    rate: f64,
    transport: &'r TransportFields,
    error: Option<ErrorFields>,
    peers: Vec<Peer>,
}

/// The source, as far as it is known: a run may have failed because it could not be opened.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SourceFields {
    #[serde(flatten)]
    path: PathFields,
    kind: Option<&'static str>,
    bytes: Option<u64>,
}

/// What was asked of the transport.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TransportFields {
    name: &'static str,
    on_slow: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<u32>,
}

/// What became of one peer.
#[derive(Debug, Serialize)]
struct Peer {
    peer: u32,
    pid: u32,
    outcome: &'static str,
    #[serde(flatten)]
    path: PathFields,
    bytes: u64,
    digest: Option<String>,
    seconds: f64,
    detached: bool,
    left_behind: bool,
    error: Option<ErrorFields>,
}

/// A path for people, and its bytes if that cannot hold them.
#[derive(Debug, Clone, Default, Serialize)]
struct PathFields {
    path: Option<String>,
    path_base64: Option<String>,
}

/// Why something failed.
#[derive(Debug, Serialize)]
struct ErrorFields {
    message: String,
    errno: Option<String>,
}

impl SourceFields {
    /// A source of which no more is known than what it was called by the user.
    pub(crate) fn unopened(path: &Path) -> Self {
        Self { path: PathFields::of(path), kind: None, bytes: None }
    }

    /// Adds what is known of it now that it is open.
    pub(crate) fn learn(&mut self, source: &Source) {
        self.kind = Some(if source.can_be_shared() { "file" } else { "stream" });
        self.bytes = source.header().size();
    }
}

impl TransportFields {
    pub(crate) fn new(name: &'static str, on_slow: OnSlow) -> Self {
        Self { name, on_slow: word(on_slow), block_size: None, blocks: None }
    }

    /// Adds what they come to for this source.
    pub(crate) fn resolve(&mut self, on_slow: OnSlow, source: &Source) {
        self.on_slow = word(on_slow.for_source(source));
    }

    pub(crate) fn with_ring(self, block_size: BlockSize, blocks: BlockCount) -> Self {
        Self { block_size: Some(block_size.get()), blocks: Some(blocks.get()), ..self }
    }
}

/// Whether a terminal may do something else with it than show it: control characters, and those that
/// change the direction of writing.
fn is_command(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns
}

fn word(on_slow: OnSlow) -> &'static str {
    match on_slow {
        OnSlow::Detach => "detach",
        OnSlow::Wait => "wait",
        OnSlow::Drop => "drop",
    }
}

impl<'r> Document<'r> {
    /// What came of a run that took so long; why it failed as a whole, if it did.
    pub(crate) fn new(
        program: &'static str,
        ended: &'r Ended,
        elapsed: Duration,
        error: Option<&Failure>,
    ) -> Self {
        let Ended { transport, source, report, .. } = ended;
        let report = report.as_ref();
        let peers = report.map_or(&[][..], |report| &report.peers);
        Self {
            schema: SCHEMA,
            program,
            version: env!("CARGO_PKG_VERSION"),
            success: error.is_none() && report.is_some_and(Report::is_success),
            source: SourceFields {
                bytes: report.and_then(|report| report.bytes).or(source.bytes),
                ..source.clone()
            },
            digest: report.and_then(|report| report.digest).map(|digest| digest.to_string()),
            seconds: elapsed.as_secs_f64(),
            rate: report.map_or(0.0, |report| rate(report, elapsed)),
            transport,
            error: error.map(ErrorFields::from),
            peers: peers.iter().map(Peer::from).collect(),
        }
    }

    /// The object, on one line.
    pub(crate) fn line(&self) -> serde_json::Result<String> {
        let mut line = String::new();
        for character in serde_json::to_string(self)?.chars() {
            // Only strings hold such, and may get to a terminal.
            match is_command(character) {
                true => line.push_str(&format!("\\u{:04x}", u32::from(character))),
                false => line.push(character),
            }
        }
        line.push('\n');
        Ok(line)
    }
}

impl From<&PeerReport> for Peer {
    fn from(peer: &PeerReport) -> Self {
        let (outcome, path, error) = match &peer.outcome {
            Outcome::Stored { path } => ("stored", PathFields::of(path), None),
            Outcome::Unconfirmed { path, failure } => {
                ("failed", PathFields::of(path), Some(failure.into()))
            }
            Outcome::Failed(failure) => ("failed", PathFields::default(), Some(failure.into())),
        };
        Self {
            peer: peer.id.0,
            pid: peer.pid,
            outcome,
            path,
            bytes: peer.bytes,
            digest: peer.digest.map(|digest| digest.to_string()),
            seconds: peer.elapsed.as_secs_f64(),
            detached: peer.is_detached,
            left_behind: peer.is_left_behind,
            error,
        }
    }
}

impl PathFields {
    fn of(path: &Path) -> Self {
        let bytes =
            path.to_str().is_none().then(|| BASE64_STANDARD.encode(path.as_os_str().as_bytes()));
        Self { path: Some(path.to_string_lossy().into_owned()), path_base64: bytes }
    }
}

impl From<&Failure> for ErrorFields {
    fn from(failure: &Failure) -> Self {
        let name = |number| match Errno::from_raw(number) {
            Errno::UnknownErrno => format!("{number}"),
            errno => format!("{errno:?}"),
        };
        Self { message: failure.message.clone(), errno: failure.errno.map(name) }
    }
}
