//! The files of a package, where they will be below `/usr` or `/usr/local`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::release::Release;
use super::{completions, manual, notices};
use crate::build::{self, Program};

/// What is copied from the workspace as it is.
const DOCUMENTS: [&str; 4] = ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// Where all that `dist` makes goes.
pub(crate) fn directory() -> PathBuf {
    build::workspace().join("target/dist")
}

/// Where the files of a package are laid out.
pub(crate) fn root() -> PathBuf {
    directory().join("usr")
}

/// Lays out all files anew, with these programs.
pub(crate) fn lay_out(release: &Release, programs: &[(Program, PathBuf)]) -> Result<()> {
    let (root, share) = (root(), root().join("share"));
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {root:?}"))?;
    }
    for (program, path) in programs {
        write(&root.join("bin").join(program.name()), read(path)?, 0o755)?;
        let page = format!("man/man1/{}.1", program.name());
        write(&share.join(page), manual::page(*program, release)?, 0o644)?;
        for place in &completions::PLACES {
            let script = completions::script(place.shell, *program)?;
            write(&share.join(place.path(*program)), script, 0o644)?;
        }
    }
    let documents = share.join("doc").join(Release::PACKAGE);
    for document in DOCUMENTS {
        write(&documents.join(document), read(&build::workspace().join(document))?, 0o644)?;
    }
    // README leads there.
    for entry in fs::read_dir(build::workspace().join("docs")).context("cannot list docs")? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        write(&documents.join("docs").join(name), read(&path)?, 0o644)?;
    }
    write(&documents.join("THIRD-PARTY"), notices::text(release)?, 0o644)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {path:?}"))
}

/// Writes a file with this mode, whatever the umask, and makes the directories above it.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    write().with_context(|| format!("cannot write {path:?}"))
}
