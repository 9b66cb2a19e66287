//! `--manifest`: the digests of all received files, in the form that `b3sum --check` takes.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ipc_core::{Directory, Existing, FileHeader, FileName, Guard, Job, ReceivedFile, Report};

use crate::streams::stream_of;

/// A manifest that can be written, as far as that is known before the run.
#[derive(Debug)]
pub(crate) struct Manifest {
    path: PathBuf,
}

impl Manifest {
    /// Checks everything about it that can be known before any peer is forked.
    pub(crate) fn new(path: PathBuf, job: &Job) -> Result<Self> {
        for peer in job.peers.ids() {
            let received = job.final_path(peer, 0)?;
            ensure!(
                received.to_str().is_some(),
                "b3sum --check takes no path that is not UTF-8, like {received:?}: leave out --manifest"
            );
        }
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
            let is_socket = existing.file_type().is_socket();
            ensure!(!is_socket, "{path:?} is a socket: choose another manifest");
            if let Some(stream) = stream_of(&existing) {
                bail!("{path:?} is the program's own {stream}: choose another manifest");
            }
        }
        if let Place::File(path) = Place::of(&path)? {
            FileName::of_path(&path)?;
            Directory::open_nearest(parent(&path))?.check_writable()?;
        }
        Ok(Self { path })
    }

    /// Writes it, if there is anything to write: like a received file it is whole when it has its name, and
    /// what had the name stays until then.
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
        match Place::of(path)? {
            Place::File(path) => write_file(&path, &lines),
            Place::Open => {
                // What an open file holds already is not the manifest's to take.
                let opened = fs::OpenOptions::new().append(true).open(path);
                let written = opened.and_then(|mut file| file.write_all(lines.as_bytes()));
                written.with_context(|| format!("cannot write to {path:?}"))
            }
        }
    }
}

/// What a manifest's path leads to.
enum Place {
    /// A file, or nothing yet: its path without links at its end.
    File(PathBuf),
    /// A device, a FIFO, or an open descriptor (`/dev/fd/3`), which is written to as it is.
    Open,
}

impl Place {
    fn of(path: &Path) -> Result<Self> {
        // As many links as the kernel follows.
        const MOST_LINKS: usize = 40;
        let mut place = path.to_owned();
        for _ in 0..=MOST_LINKS {
            let examined = found(fs::symlink_metadata(&place));
            match examined.with_context(|| format!("cannot examine {path:?}"))? {
                Some(link) if link.is_symlink() && !is_descriptor(&link) => {
                    let target = fs::read_link(&place);
                    let target =
                        target.with_context(|| format!("cannot read the link {place:?}"))?;
                    place = parent(&place).join(target);
                }
                Some(other) if !other.is_file() => return Ok(Self::Open),
                _ => return Ok(Self::File(place)),
            }
        }
        bail!("{path:?} is a link that leads nowhere: choose another manifest")
    }
}

/// Whether a link is one of `/proc`, which leads to an open file whatever path it gives.
pub(crate) fn is_descriptor(link: &Metadata) -> bool {
    fs::symlink_metadata("/proc/self").is_ok_and(|process| process.dev() == link.dev())
}

/// Writes a file that is whole when it has its name.
fn write_file(path: &Path, lines: &str) -> Result<()> {
    let name = FileName::of_path(path)?;
    let directory = Directory::open_or_create(parent(path))?;
    let header = FileHeader::new(name.clone(), u64::try_from(lines.len()).ok(), 0o666, (0, 0))?;
    let hidden = FileName::new(format!(".{:016x}", FileName::random_token()).as_bytes())?;
    // It is needed only if this process is killed.
    let guard = Guard::of_name(&directory, &hidden).ok();
    let written = ReceivedFile::create(&directory, &header, hidden).and_then(|mut file| {
        file.write_all(lines.as_bytes())?;
        file.finish()?.commit(&name, Existing::Replace)
    });
    match (guard, &written) {
        (Some(guard), Ok(())) => guard.dismiss(),
        (Some(guard), Err(_)) => _ = guard.clean_up(),
        (None, _) => {}
    }
    Ok(written?)
}

/// What is at `path`, or where a link there leads, if there is anything.
fn target(path: &Path) -> Result<Option<Metadata>> {
    found(fs::metadata(path)).with_context(|| format!("cannot examine {path:?}"))
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
