//! The Debian package, which cargo-deb makes of what `crates/ipc-cli/Cargo.toml` says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::command::output;
use super::layout;
use super::release::Release;
use crate::build;

/// Packs the programs that `build` has built, and what is laid out, into `directory`; the package.
pub(crate) fn pack(release: &Release, directory: &Path) -> Result<PathBuf> {
    let changelog = format!(
        "{} ({}-1) unstable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n -- {}  {}\n",
        Release::PACKAGE,
        Release::VERSION,
        env!("CARGO_PKG_AUTHORS"),
        release.mail_date()?
    );
    layout::write(&layout::directory().join("changelog"), changelog, 0o644)?;
    let mut cargo = build::cargo();
    cargo.args(["deb", "--package", Release::PACKAGE, "--no-build", "--output"]).arg(directory);
    let printed = output(cargo.env("SOURCE_DATE_EPOCH", &release.time))?;
    let package = printed.lines().last().map(PathBuf::from);
    let package = package.context("cargo deb does not say what it has made")?;
    ensure!(package.is_file(), "cargo deb names {package:?}, which is not there");
    Ok(package)
}
