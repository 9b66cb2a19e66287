//! What a person or a script gets to see: paths on standard output, all else on standard error.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytesize::ByteSize;
use ipc_core::{Event, FileName, Report};

use crate::environment::check_stdout;

/// One line on standard error. That nobody can see it is no reason to fail.
pub(crate) fn message(program: &str, text: &str) {
    // In one piece, as others may write to the same terminal.
    let _ = io::stderr().write_all(format!("{program}: {text}\n").as_bytes());
}

/// The paths of the received files, each with this byte behind it.
pub(crate) fn paths(report: &Report, end: u8) -> io::Result<()> {
    check_stdout()?;
    let lines: Vec<u8> =
        report.stored().flat_map(|path| [path.as_os_str().as_bytes(), &[end]].concat()).collect();
    // Somebody may have made it non-blocking, which the standard library takes for an error.
    ipc_core::io::write_all(io::stdout(), &lines)
}

/// What happens while the run goes on.
pub(crate) fn event(program: &str, event: Event<'_>) {
    if let Event::Waiting { peer, pid } = event {
        let seconds = Event::PATIENCE.as_secs();
        let said =
            format!("waiting for peer {peer} (pid {pid}), which has done nothing for {seconds} s");
        message(program, &format!("{said}; --timeout would end that"));
    }
}

/// Why there is not a received file for every peer: first for the run, then for each peer.
pub(crate) fn failures(program: &str, report: &Report) {
    if let Some(failure) = &report.aborted {
        message(program, &failure.message);
    }
    for (peer, failure) in report.failed() {
        message(program, &format!("peer {} (pid {}): {failure}", peer.id, peer.pid));
    }
}

/// How much went to how many in what time.
pub(crate) fn summary(program: &str, name: &FileName, report: &Report, elapsed: Duration) {
    let (stored, peers) = (report.stored().count(), report.peers.len());
    let mut text = format!("{stored} of {peers} peers stored {name:?}");
    if stored > 0 {
        let size = ByteSize::b(report.bytes);
        let rate = rate(report.bytes, stored, elapsed);
        let seconds = elapsed.as_secs_f64();
        text.push_str(&format!(", {size} each, in {seconds:.3} s ({rate}/s in all)"));
    }
    if let Some(detached) = detached(report) {
        text.push_str(&format!("; slow and detached: {detached}"));
    }
    message(program, &text);
}

/// The peers that were detached: by number, or, if they are many, how many.
fn detached(report: &Report) -> Option<String> {
    const MANY: usize = 8;
    let numbers: Vec<_> = report.detached().map(|peer| peer.id.to_string()).collect();
    match numbers.len() {
        0 => None,
        1 => Some(format!("peer {}", numbers.concat())),
        2..=MANY => Some(format!("peers {}", numbers.join(", "))),
        count => Some(format!("{count} peers")),
    }
}

/// Bytes delivered in a second, all peers together.
#[allow(clippy::cast_precision_loss, reason = "a rate for people has three digits")]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn rate(bytes: u64, stored: usize, elapsed: Duration) -> ByteSize {
    ByteSize::b((bytes as f64 * stored as f64 / elapsed.as_secs_f64()) as u64)
}
