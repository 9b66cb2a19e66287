//! The tarball: all files in one directory, for any Linux with this kind of processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::command::output;
use super::layout;
use super::release::Release;

/// Packs what is laid out into `directory`; the tarball.
///
/// The same files give the same bytes: names are sorted, times, owners and modes are set.
pub(crate) fn pack(release: &Release, directory: &Path) -> Result<PathBuf> {
    let tarball = directory.join(format!("{}.tar.gz", release.stem()));
    let mut files = files_below(&layout::root())?;
    files.sort();
    output(
        Command::new("tar")
            .arg("--create")
            .arg(format!("--mtime=@{}", release.time))
            .args(["--format=ustar", "--owner=root:0", "--group=root:0"])
            // Without directories: as root, tar would give those that are there already other modes.
            .arg(format!("--transform=s,^,{}/,", release.stem()))
            .args(["--use-compress-program", "gzip -9 --no-name"])
            .arg("--file")
            .arg(&tarball)
            .arg("--directory")
            .arg(layout::root())
            .args(files),
    )?;
    Ok(tarball)
}

/// Paths of all files below a directory, from there.
fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("cannot list {directory:?}"))? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    Ok(files)
}
