//! What a person or a script gets to see: paths on standard output, all else on standard error.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use ipc_core::{Event, FileName, PeerId, Report, describe};

use crate::environment::check_stdout;
use crate::json::Document;
use crate::{Ended, advice};

/// What is printed when a run has ended, and how.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) program: &'static str,
    /// What standard output gets.
    pub(crate) form: Form,
    /// Whether there is no summary.
    pub(crate) is_quiet: bool,
}

/// What standard output gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// The paths of the received files, each with this byte behind it.
    Paths(u8),
    /// The whole report, as a JSON object.
    Json,
}

impl Output {
    /// Tells what came of a run; says whether all went well, this included.
    pub(crate) fn tell(&self, ended: &Ended, elapsed: Duration) -> bool {
        let printed = self.print(ended, elapsed);
        if let Some(report) = &ended.report {
            failures(self.program, report);
            if !self.is_quiet
                && let Some(name) = &ended.name
            {
                summary(self.program, name, report, elapsed);
            }
        }
        let unprinted = printed.context("cannot write to standard output").err();
        for error in unprinted.iter().chain(&ended.error) {
            message(self.program, &describe(error.as_ref()));
        }
        let is_success = ended.report.as_ref().is_some_and(Report::is_success);
        is_success && unprinted.is_none() && ended.error.is_none()
    }

    /// Prints what is for standard output.
    fn print(&self, ended: &Ended, elapsed: Duration) -> io::Result<()> {
        let report = ended.report.as_ref();
        let bytes = match self.form {
            Form::Paths(end) => {
                let paths = report.into_iter().flat_map(Report::stored);
                paths.flat_map(|path| [path.as_os_str().as_bytes(), &[end]].concat()).collect()
            }
            Form::Json => {
                let error = ended.error.as_ref().map(advice::failure);
                let error = report.and_then(|report| report.aborted.as_ref()).or(error.as_ref());
                let source = ended.source.clone();
                Document::new(&ended.settings, source, elapsed, report, error).line()?
            }
        };
        if report.is_none() && bytes.is_empty() {
            return Ok(());
        }
        check_stdout()?;
        // Somebody may have made it non-blocking, which the standard library takes for an error.
        ipc_core::io::write_all(io::stdout(), &bytes)
    }
}

/// One line on standard error. That nobody can see it is no reason to fail.
pub(crate) fn message(program: &str, text: &str) {
    // In one piece, as others may write to the same terminal.
    let _ = io::stderr().write_all(format!("{program}: {text}\n").as_bytes());
}

/// Whom the run has been waiting for.
pub(crate) fn waiting(peer: PeerId, pid: u32) -> String {
    let seconds = Event::PATIENCE.as_secs();
    format!(
        "waiting for peer {peer} (pid {pid}), which has done nothing for {seconds} s; \
         --timeout would end that"
    )
}

/// Why there is not a received file for every peer: first for the run, then for each peer.
fn failures(program: &str, report: &Report) {
    if let Some(failure) = &report.aborted {
        message(program, &failure.message);
    }
    for (peer, failure) in report.failed() {
        message(program, &format!("peer {} (pid {}): {failure}", peer.id, peer.pid));
    }
}

/// How much went to how many in what time.
fn summary(program: &str, name: &FileName, report: &Report, elapsed: Duration) {
    let (stored, peers) = (report.stored().count(), report.peers.len());
    let mut text = format!("{stored} of {peers} peers stored {name:?}");
    if stored > 0 {
        let size = ByteSize::b(report.bytes.unwrap_or(0));
        let rate = bytes(rate(report, elapsed));
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

/// Bytes that were stored in a second, all peers together.
#[allow(clippy::cast_precision_loss, reason = "no rate is known so exactly")]
pub(crate) fn rate(report: &Report, elapsed: Duration) -> f64 {
    let stored = report.stored().count() as f64 * report.bytes.unwrap_or(0) as f64;
    stored / elapsed.as_secs_f64()
}

/// Bytes for people, who need no more than three digits of them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub(crate) fn bytes(bytes: f64) -> ByteSize {
    ByteSize(bytes as u64)
}
