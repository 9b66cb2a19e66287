//! What is packed: its version, the machines that it is for, and when it was made.

use std::process::Command;

use anyhow::{Context, Result};

use super::command::output;

/// One release for one kind of machine.
#[derive(Debug)]
pub(crate) struct Release {
    /// As cargo calls the machines.
    pub(crate) target: String,
    /// Seconds since 1970: the same source gives the same packages, whenever they are made.
    pub(crate) time: String,
}

impl Release {
    /// What it is called, here and in Debian.
    pub(crate) const PACKAGE: &str = "ipc-cli";

    pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// What the workspace is, built on this machine.
    pub(crate) fn of_workspace() -> Result<Self> {
        let rustc = output(Command::new("rustc").args(["--version", "--verbose"]))?;
        let target = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let commit = || output(Command::new("git").args(["log", "--max-count=1", "--format=%ct"]));
        let time = std::env::var("SOURCE_DATE_EPOCH").or_else(|_| {
            commit()
                .context("where no git says it, SOURCE_DATE_EPOCH must say how old the source is")
        })?;
        Ok(Self { target: target.context("rustc names no host")?.to_owned(), time })
    }

    /// Its name for people, on any machine.
    pub(crate) fn name() -> String {
        format!("{} {}", Self::PACKAGE, Self::VERSION)
    }

    /// The name of its tarball, less `.tar.gz`, and of the directory in it.
    pub(crate) fn stem(&self) -> String {
        format!("{}-{}-{}", Self::PACKAGE, Self::VERSION, self.target)
    }

    /// The day, as manual pages have it.
    pub(crate) fn date(&self) -> Result<String> {
        self.time_as("+%Y-%m-%d")
    }

    /// The time as mails and Debian's changelogs have it.
    pub(crate) fn mail_date(&self) -> Result<String> {
        self.time_as("--rfc-email")
    }

    fn time_as(&self, format: &str) -> Result<String> {
        let time = format!("--date=@{}", self.time);
        output(Command::new("date").args(["--utc", &time, format]).env("LC_ALL", "C"))
    }
}
