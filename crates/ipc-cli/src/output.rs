//! What a person or a script gets to see: paths on standard output, all else on standard error.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use ipc_core::{Error, FileName, Report, describe};

use crate::advice;
use crate::environment::check_stdout;
use crate::json::Document;
use crate::message::{bytes, message};
use crate::run::{Ended, rate};

/// What is printed when a run has ended, and how.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) program: &'static str,
    /// What standard output gets.
    pub(crate) format: Format,
    /// Whether there is no summary.
    pub(crate) is_quiet: bool,
}

/// What standard output gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
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
                let hint = ended.name_is_number.then(|| {
                    format!("; {name:?} is a file descriptor: --file-name names the copies")
                });
                summary(self.program, name, report, elapsed, &hint.unwrap_or_default());
            }
        }
        let unprinted = printed.context("cannot write to standard output").err();
        for line in unprinted.iter().chain(&ended.error).flat_map(lines) {
            message(self.program, &line);
        }
        let is_success = ended.report.as_ref().is_some_and(Report::is_success);
        is_success && unprinted.is_none() && ended.error.is_none()
    }

    /// Prints what is for standard output.
    fn print(&self, ended: &Ended, elapsed: Duration) -> io::Result<()> {
        let report = ended.report.as_ref();
        let bytes = match self.format {
            Format::Paths(end) => {
                let paths = report.into_iter().flat_map(Report::stored);
                paths.flat_map(|path| [path.as_os_str().as_bytes(), &[end]].concat()).collect()
            }
            Format::Json => {
                let error = ended.error.as_ref().map(advice::failure);
                let error = report.and_then(|report| report.aborted.as_ref()).or(error.as_ref());
                Document::new(self.program, ended, elapsed, error).line()?.into_bytes()
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

/// What an error says: one line, or one for each peer.
fn lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref() {
        Some(Error::NoPeerLeft(refused)) => {
            refused.iter().map(|(peer, why)| format!("peer {peer}: {why}")).collect()
        }
        _ => vec![describe(error.as_ref())],
    }
}

/// Why there is not a received file for every peer, and not the end of every process: first for the run, then
/// for each peer.
fn failures(program: &str, report: &Report) {
    if let Some(failure) = &report.aborted {
        message(program, &failure.message);
    }
    let failed: BTreeMap<_, _> =
        report.failed().map(|(peer, failure)| (peer.id, &*failure.message)).collect();
    for peer in &report.peers {
        let left = peer.is_left_behind.then_some(LEFT_BEHIND);
        let reasons: Vec<_> = failed.get(&peer.id).copied().into_iter().chain(left).collect();
        if !reasons.is_empty() {
            let reasons = reasons.join("; ");
            message(program, &format!("peer {} (pid {}): {reasons}", peer.id, peer.pid));
        }
    }
}

/// What is said of a process that was killed and has not ended.
const LEFT_BEHIND: &str = "its process waits in the kernel and is left behind";

/// How much went to how many in what time.
fn summary(program: &str, name: &FileName, report: &Report, elapsed: Duration, hint: &str) {
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
    if stored > 0 {
        text.push_str(hint);
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
