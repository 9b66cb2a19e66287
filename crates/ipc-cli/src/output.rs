//! What a person or a script gets to see: paths on standard output, all else on standard error.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytesize::ByteSize;
use ipc_core::{FileName, Report};

/// One line on standard error. That nobody can see it is no reason to fail.
pub(crate) fn message(program: &str, text: &str) {
    let _ = writeln!(io::stderr(), "{program}: {text}");
}

/// The paths of the received files, one a line.
pub(crate) fn paths(report: &Report) -> io::Result<()> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    for path in report.stored() {
        output.write_all(path.as_os_str().as_bytes())?;
        output.write_all(b"\n")?;
    }
    output.flush()
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
    let stored = report.stored().count();
    let seconds = elapsed.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people has three digits")]
    let delivered = report.bytes as f64 * stored as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    let rate = ByteSize::b((delivered / seconds) as u64);
    message(
        program,
        &format!(
            "{stored} of {} peers stored {name:?}, {} each, in {seconds:.3} s ({rate}/s)",
            report.peers.len(),
            ByteSize::b(report.bytes),
        ),
    );
}
