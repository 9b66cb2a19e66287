//! Messages for people, and how they name an amount.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::PanicHookInfo;

use bytesize::ByteSize;
use ipc_core::io::write_all;
use ipc_core::{Event, PeerId};

/// Writes one line to standard error, and waits until all of it is taken. That it cannot be written is no
/// reason to fail.
pub(crate) fn message(program: &str, text: &str) {
    write(&line(program, text));
}

/// A message as it is written: in one piece, as others may write to the same terminal.
pub(crate) fn line(program: &str, text: &str) -> String {
    format!("{program}: {text}\n")
}

/// Writes this to standard error. Another process may have made that non-blocking, and it may be full.
pub(crate) fn write(text: &str) {
    let _ = write_all(io::stderr(), text.as_bytes());
}

/// Lets a panic be a message too.
pub(crate) fn tell_panics(program: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        let mut text = format!("internal error: {}", one_line(panic));
        // Where the caller asks for one (`RUST_BACKTRACE`).
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text.push_str(&format!("\n{trace}"));
        }
        message(program, &text);
    }));
}

fn one_line(panic: &PanicHookInfo<'_>) -> String {
    panic.to_string().lines().collect::<Vec<_>>().join(" ")
}

/// The message about a peer that the run waits for.
pub(crate) fn waiting(peer: PeerId, pid: u32) -> String {
    let seconds = Event::PATIENCE.as_secs();
    format!(
        "waiting for peer {peer} (pid {pid}), which has done nothing for {seconds} s; \
         --timeout would end that"
    )
}

/// The message about a clean-up that the run does not wait for any longer.
pub(crate) fn unfinished(pid: u32) -> String {
    format!(
        "cannot remove in time what failed peers have left: process {pid} goes on with it \
         once the file system answers"
    )
}

/// Bytes for people, who need no more than three digits of them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub(crate) fn bytes(bytes: f64) -> ByteSize {
    ByteSize(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_on_one_line() {
        let (sender, told) = std::sync::mpsc::channel();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| sender.send(one_line(panic)).unwrap()));
        let panicked = std::panic::catch_unwind(|| panic!("one\ntwo"));
        std::panic::set_hook(before);
        assert!(panicked.is_err());
        let told = told.recv().unwrap();
        assert!(told.starts_with("panicked at ") && told.ends_with(": one two"), "{told}");
    }
}
