//! `--manifest`: the digests of all received files, in the form that `b3sum --check` takes.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::{Directory, Existing, FileHeader, FileName, Job, PeerId, ReceivedFile, Report};

/// A manifest that can be written, as far as that is known before the run.
#[derive(Debug)]
pub(crate) struct Manifest {
    path: PathBuf,
}

impl Manifest {
    /// Checks everything about it that can be known before any peer is forked.
    pub(crate) fn new(path: PathBuf, job: &Job) -> Result<Self> {
        let received = job.final_path(PeerId(0), 0)?;
        ensure!(
            received.to_str().is_some(),
            "b3sum --check takes no path that is not UTF-8, like {received:?}: leave out --manifest"
        );
        let bytes = path.as_os_str().as_bytes();
        ensure!(
            !bytes.ends_with(b"/"),
            "{path:?} names a directory: name a file in it as manifest"
        );
        ensure!(bytes != b"-", "standard output has the paths already: name a file as manifest");
        if !job.name.needs_pid() {
            for peer in job.peers.ids() {
                let received = job.final_path(peer, 0)?;
                let is_clear = !received.starts_with(&path);
                ensure!(is_clear, "{path:?} would be a received file's: choose another manifest");
            }
        }
        if let Some(existing) = target(&path)? {
            let source = rustix::fs::fstat(&job.source).context("cannot examine the source")?;
            let is_source = (existing.dev(), existing.ino()) == (source.st_dev, source.st_ino);
            ensure!(!is_source, "{path:?} is the source itself: choose another manifest");
            ensure!(!existing.is_dir(), "{path:?} is a directory: name a file in it as manifest");
        }
        if !is_written_through(&path)? {
            FileName::of_path(&path)?;
            Directory::open_nearest(parent(&path))?.check_writable()?;
        }
        Ok(Self { path })
    }

    /// Writes it, if there is anything to write: like a received file it is whole when it has its name,
    /// unless something other than a file is there, which is written to as a shell would do.
    pub(crate) fn write(&self, report: &Report) -> Result<()> {
        let Some(digest) = report.digest.filter(|_| report.stored().next().is_some()) else {
            return Ok(());
        };
        let mut lines = String::new();
        for path in report.stored() {
            let Some(path) = path.to_str() else { bail!("{path:?} is not UTF-8") };
            lines.push_str(&line(&digest.to_string(), path));
        }
        let path = &self.path;
        if let Some(existing) = target(path)? {
            for received in report.stored() {
                let is_it = fs::metadata(received).is_ok_and(|received| {
                    (received.dev(), received.ino()) == (existing.dev(), existing.ino())
                });
                ensure!(!is_it, "{path:?} is a received file: choose another manifest");
            }
        }
        if is_written_through(path)? {
            return fs::write(path, lines).with_context(|| format!("cannot write to {path:?}"));
        }
        let name = FileName::of_path(path)?;
        let directory = Directory::open_or_create(parent(path))?;
        let size = u64::try_from(lines.len()).ok();
        let header = FileHeader::new(name.clone(), size, 0o666, (0, 0))?;
        let hidden = FileName::new(format!(".{:016x}", FileName::random_token()?).as_bytes())?;
        let mut file = ReceivedFile::create(&directory, &header, hidden)?;
        file.write_all(lines.as_bytes())?;
        // To replace what is there in one step would take a hidden name, which stays if this process is
        // killed just then. So there is none for an instant: what it listed has been replaced as well.
        directory.remove(&name)?;
        Ok(file.finish()?.commit(&name, Existing::Replace)?)
    }
}

/// What is at `path`, or where a link there leads, if there is anything.
fn target(path: &Path) -> Result<Option<Metadata>> {
    found(fs::metadata(path)).with_context(|| format!("cannot examine {path:?}"))
}

/// Whether something is at `path` that a file with this name must not replace: a link, which may be
/// `/dev/stdout`, a FIFO or a device.
fn is_written_through(path: &Path) -> Result<bool> {
    let metadata = found(fs::symlink_metadata(path));
    let metadata = metadata.with_context(|| format!("cannot examine {path:?}"))?;
    Ok(metadata.is_some_and(|metadata| !metadata.is_file()))
}

fn found(metadata: io::Result<Metadata>) -> io::Result<Option<Metadata>> {
    match metadata {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        metadata => metadata.map(Some),
    }
}

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// One line, with a backslash at its start if any stands for something in the path.
fn line(digest: &str, path: &str) -> String {
    let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == path { "" } else { "\\" };
    format!("{mark}{digest}  {escaped}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_or_escape_a_line_is_escaped() {
        assert_eq!(line("aa", "received files/ä"), "aa  received files/ä\n");
        assert_eq!(line("aa", "a\\b\nc"), "\\aa  a\\\\b\\nc\n");
    }
}
