//! The program's own standard streams, where they are files that a run must not replace or write into.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Result, ensure};
use ipc_core::{Existing, Job};
use rustix::fs::{FileType, Stat};

/// The standard streams, by name, and what each is.
fn streams() -> impl Iterator<Item = (&'static str, Stat)> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stat = |name, stream: &dyn AsFd| Some((name, rustix::fs::fstat(stream.as_fd()).ok()?));
    let all = [
        stat("standard output", &stdout),
        stat("standard error", &stderr),
        stat("standard input", &stdin),
    ];
    all.into_iter().flatten()
}

fn are_same(file: &Metadata, stat: &Stat) -> bool {
    (file.dev(), file.ino()) == (stat.st_dev, stat.st_ino)
}

/// The standard stream that goes to or comes from this file, by whatever name.
///
/// None where it is a device: a terminal shows all that is written to it, and `/dev/null` nothing.
pub(crate) fn stream_of(file: &Metadata) -> Option<&'static str> {
    let is_device = file.file_type().is_char_device();
    streams().find(|(_, stat)| !is_device && are_same(file, stat)).map(|(name, _)| name)
}

/// Checks that no received file would replace the file of a standard stream, as far as the names are known.
pub(crate) fn check_names(job: &Job) -> Result<()> {
    let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let files: Vec<_> = streams().filter(|(_, stat)| is_file(stat)).collect();
    if files.is_empty() || job.name.needs_pid() || job.existing == Existing::Keep {
        return Ok(());
    }
    for peer in job.peers.ids() {
        let path = job.final_path(peer, 0)?;
        check_name(&path, &files)?;
    }
    Ok(())
}

fn check_name(path: &Path, files: &[(&'static str, Stat)]) -> Result<()> {
    // A link there is replaced, and what it leads to is not.
    let Ok(existing) = fs::symlink_metadata(path) else { return Ok(()) };
    let stream = files.iter().find(|(_, stat)| are_same(&existing, stat));
    ensure!(
        stream.is_none(),
        "{path:?} is the program's own {}: choose another directory or name",
        stream.map_or("", |(name, _)| name)
    );
    Ok(())
}
