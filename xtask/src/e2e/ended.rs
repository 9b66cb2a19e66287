//! What a run came to, and what is expected of it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};

use super::scene::Scene;
use crate::files::first_difference;

/// A run that has ended and left nothing but files.
#[derive(Debug)]
pub(crate) struct Ended<'s> {
    pub(crate) scene: &'s Scene,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// Peak resident memory of whichever process of the run had most.
    pub(crate) peak_bytes: u64,
    /// What is in the directory now that was not there before.
    pub(crate) created: BTreeSet<PathBuf>,
}

impl Ended<'_> {
    pub(crate) fn expect_status(&self, code: i32) -> Result<()> {
        self.expect("end", self.status.to_string(), format!("exit status: {code}"))
    }

    /// Nothing has been made, and nothing is on standard output.
    pub(crate) fn expect_nothing(&self) -> Result<()> {
        self.expect("new files", &self.created, &BTreeSet::new())?;
        self.expect("standard output", self.stdout.escape_ascii().to_string(), String::new())
    }

    /// All that is said is one line, which begins like this, after the program's name, and gives
    /// this reason.
    pub(crate) fn expect_message(&self, begin: &str, reason: &str) -> Result<()> {
        let begin = format!("{}: {begin}", self.scene.program.name());
        let said = &self.stderr;
        let is_it = said.lines().count() == 1 && said.starts_with(&begin) && said.contains(reason);
        ensure!(
            is_it,
            "standard error: expected one line with {reason:?} that begins with {begin:?}, found {said:?}"
        );
        Ok(())
    }

    /// The peers have stored copies of `source` under the names that they have by default.
    pub(crate) fn expect_copies_by_pid(
        &self,
        source: impl AsRef<Path>,
        name: impl AsRef<Path>,
        peers: usize,
    ) -> Result<()> {
        let is_copy = |path: &&PathBuf| is_named_by_pid(path, name.as_ref());
        let paths: Vec<_> = self.created.iter().filter(is_copy).cloned().collect();
        self.expect("files named received-files/pid-<pid>_<name>", paths.len(), peers)?;
        self.expect_copies(source, &paths)
    }

    /// All these are whole copies of `source`, standard output names them and nothing else, and
    /// there is no other new file.
    pub(crate) fn expect_copies(&self, source: impl AsRef<Path>, paths: &[PathBuf]) -> Result<()> {
        let source = self.scene.path(source);
        for path in paths {
            let difference = first_difference(&source, &self.scene.path(path))
                .with_context(|| format!("cannot compare {path:?} with {source:?}"))?;
            self.expect(&format!("first byte of {path:?} that differs"), difference, None)?;
        }
        self.expect_printed(paths)?;
        let accounted: BTreeSet<_> = paths.iter().flat_map(|path| path.ancestors()).collect();
        let mut others = self.created.clone();
        others.retain(|path| !accounted.contains(path.as_path()));
        self.expect("files beside the copies", others, BTreeSet::new())
    }

    /// Standard output has each of these paths on a line of its own, in any order.
    fn expect_printed(&self, paths: &[PathBuf]) -> Result<()> {
        // Names may have line ends in them, so lines cannot be counted; but no path is within
        // another, so that all of them and no byte more is each of them once.
        let lines = paths.iter().map(|path| [path.as_os_str().as_bytes(), b"\n"].concat());
        let has = |line: &Vec<u8>| self.stdout.windows(line.len()).any(|window| window == line);
        let (here, missing): (Vec<_>, Vec<_>) = lines.partition(has);
        let is_it = missing.is_empty() && here.concat().len() == self.stdout.len();
        let stdout = || self.stdout.escape_ascii();
        ensure!(is_it, "standard output: expected {paths:?}, one a line, found \"{}\"", stdout());
        Ok(())
    }

    pub(crate) fn expect<T: PartialEq + Debug>(
        &self,
        what: &str,
        found: T,
        expected: T,
    ) -> Result<()> {
        ensure!(
            found == expected,
            "{what}: expected {expected:?}, found {found:?}\n  standard error was {:?}",
            self.stderr
        );
        Ok(())
    }
}

fn is_named_by_pid(path: &Path, name: &Path) -> bool {
    let path = path.as_os_str().as_bytes().strip_prefix(b"received-files/pid-");
    let path = path.and_then(|rest| rest.strip_suffix(name.as_os_str().as_bytes()));
    let pid = path.and_then(|rest| rest.strip_suffix(b"_"));
    pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_name_is_told_from_others() {
        for (path, expected) in [
            ("received-files/pid-17_data", true),
            ("received-files/pid-_data", false),
            ("received-files/pid-1x_data", false),
            ("received-files/pid-17data", false),
            ("received-files/pid-17_other", false),
            ("pid-17_data", false),
        ] {
            assert_eq!(is_named_by_pid(path.as_ref(), "data".as_ref()), expected, "{path}");
        }
    }
}
