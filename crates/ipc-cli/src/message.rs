//! Messages for people, and how they name an amount.

use std::io::{self, Write};

use bytesize::ByteSize;
use ipc_core::{Event, PeerId};

/// One line on standard error. That nobody can see it is no reason to fail.
pub(crate) fn message(program: &str, text: &str) {
    // In one piece, as others may write to the same terminal.
    let _ = io::stderr().write_all(format!("{program}: {text}\n").as_bytes());
}

/// The message about a peer that the run waits for.
pub(crate) fn waiting(peer: PeerId, pid: u32) -> String {
    let seconds = Event::PATIENCE.as_secs();
    format!(
        "waiting for peer {peer} (pid {pid}), which has done nothing for {seconds} s; \
         --timeout would end that"
    )
}

/// Bytes for people, who need no more than three digits of them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub(crate) fn bytes(bytes: f64) -> ByteSize {
    ByteSize(bytes as u64)
}
