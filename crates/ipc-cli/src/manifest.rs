//! `--manifest`: the digests of all received files, in the form that `b3sum --check` takes.

use std::fs::{self, Metadata};
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
        if let Some(existing) = metadata(&path)? {
            let source = rustix::fs::fstat(&job.source).context("cannot examine the source")?;
            let is_source = (existing.dev(), existing.ino()) == (source.st_dev, source.st_ino);
            ensure!(!is_source, "{path:?} is the source itself: choose another manifest");
            ensure!(!existing.is_dir(), "{path:?} is a directory: name a file in it as manifest");
            if !existing.is_file() {
                return Ok(Self { path });
            }
        }
        FileName::of_path(&path)?;
        Directory::open_nearest(parent(&path))?.check_writable()?;
        Ok(Self { path })
    }

    /// Writes it, if there is anything to write: like a received file it is whole when it has its name.
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
        let existing = metadata(path)?;
        if existing.as_ref().is_some_and(|existing| !existing.is_file()) {
            return fs::write(path, lines).with_context(|| format!("cannot write to {path:?}"));
        }
        if let Some(existing) = existing {
            for received in report.stored() {
                let is_it = fs::metadata(received).is_ok_and(|received| {
                    (received.dev(), received.ino()) == (existing.dev(), existing.ino())
                });
                ensure!(!is_it, "{path:?} is a received file: choose another manifest");
            }
        }
        let name = FileName::of_path(path)?;
        let directory = Directory::open_or_create(parent(path))?;
        let size = u64::try_from(lines.len()).ok();
        let header = FileHeader { name: name.clone(), size, mode: 0o666, modified: (0, 0) };
        let hidden = FileName::new(format!(".{:016x}", FileName::random_token()?).as_bytes())?;
        let mut file = ReceivedFile::create(&directory, &header, hidden)?;
        file.write_all(lines.as_bytes())?;
        file.finish()?;
        Ok(file.commit(&name, Existing::Replace)?)
    }
}

/// What is at `path`, if there is anything.
fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot examine {path:?}")),
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
