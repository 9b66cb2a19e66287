//! What becomes of the source: how often it is read, and what it may be.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

use crate::compare::cell::Cell;
use crate::compare::held;
use crate::compare::scene::{SOURCE, SOURCE_BYTES, Scene};
use crate::compare::tool::{Source, Wish};

/// strace counts the bytes that all processes together get out of it.
pub(crate) fn reads_once(scene: &Scene) -> Result<Cell> {
    let log = scene.path("log");
    let option = scene.tool.option(Wish::ReadOnce);
    let invocations = scene.tool.invocations(option.as_slice(), Source::File(SOURCE), "");
    let mut bytes = 0;
    for words in invocations {
        let strace = held::traced(&log, &scene.path(SOURCE), &[]);
        let words = [strace, vec!["-f".to_owned()], words].concat();
        let running = scene.start_all(&[words], || scene.standard_input())?;
        ensure!(running.wait()?.is_success(), "it failed");
        bytes += bytes_moved(&fs::read_to_string(&log)?);
    }
    ensure!(scene.are_whole()? && bytes > 0, "it has not read the source");
    Ok(Cell::of(bytes <= SOURCE_BYTES, option))
}

/// The sum of what the calls in strace's log returned.
fn bytes_moved(log: &str) -> u64 {
    let results = log.lines().filter_map(|line| line.rsplit_once(" = "));
    results.filter_map(|(_, result)| result.parse::<u64>().ok()).sum()
}

pub(crate) fn takes_stream(scene: &Scene) -> Result<Cell> {
    let (running, mut writer) = scene.start_stream(&[])?;
    // Who does not take it ends at once.
    let _ = io::copy(&mut File::open(scene.path(SOURCE))?, &mut writer);
    drop(writer);
    let ended = running.wait()?;
    Ok(Cell::of(ended.is_success() && scene.are_whole()?, None))
}

/// A byte that it has not yet read is overwritten.
pub(crate) fn notices_change(scene: &Scene) -> Result<Cell> {
    let held = scene.hold(&[])?;
    let source = OpenOptions::new().write(true).open(scene.path(SOURCE))?;
    source.write_all_at(b"!", SOURCE_BYTES - 1).context("cannot change the source")?;
    Ok(Cell::of(!held.finish()?.is_success(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_calls_return_is_counted() {
        let log = "7 read(0, \"\"..., 8192) = 8192\n8 read(0,  <unfinished ...>\n\
                   7 read(0, \"\", 8192) = 0\n8 <... read resumed>\"\"..., 10) = 10\n\
                   8 sendfile(9, 3, [0] => [300], 300) = 300\n\
                   7 read(0, 0x7ffd, 1) = -1 EISDIR (Is a directory)\n\
                   7 --- SIGCHLD {si_signo=SIGCHLD, si_status=0} ---\n";
        assert_eq!(bytes_moved(log), 8502);
    }
}
