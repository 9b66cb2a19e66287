//! One sender and three hosts with a directory each, and the scripts that run there.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use super::document::{Document, Script};
use super::lan::{Lan, sent_bytes};
use crate::{build, files, processes};

/// Hosts that receive; the document says so too.
pub(crate) const HOSTS: usize = 3;
/// Copies on each of them, as there.
pub(crate) const COPIES: usize = 4;
/// Far more than sender, receivers and programs hold on the way.
pub(crate) const BYTES: u64 = 32 << 20;

/// Where a case takes place.
#[derive(Debug)]
pub(crate) struct Scene<'d> {
    pub(crate) document: &'d Document,
    lan: Lan,
    directory: TempDir,
}

/// A script that runs.
#[derive(Debug)]
pub(crate) struct Running {
    shell: Child,
    output: File,
}

/// What became of a script.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Standard output and standard error.
    pub(crate) said: String,
}

impl<'d> Scene<'d> {
    /// Everybody is there, and the source is written.
    pub(crate) fn new(document: &'d Document) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("machines-").tempdir();
        let directory = directory.context("cannot make a directory")?;
        let scene = Self { document, lan: Lan::new(HOSTS + 1)?, directory };
        for host in 0..=HOSTS {
            fs::create_dir(scene.path(host, "")).context("cannot make a directory")?;
        }
        files::write_source(&scene.source(), BYTES)?;
        fs::hard_link(scene.source(), scene.sent()).context("cannot link the source")?;
        Ok(scene)
    }

    /// A path on a host: 1 to `HOSTS`; 0 is the sender.
    pub(crate) fn path(&self, host: usize, path: &str) -> PathBuf {
        self.directory.path().join(format!("host-{host}")).join(path)
    }

    /// The source, which is nowhere on a host.
    pub(crate) fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    /// What the sender reads.
    fn sent(&self) -> PathBuf {
        self.path(0, "model.bin")
    }

    /// The digest that the document lets the sender compute.
    pub(crate) fn digest(&self) -> Result<String> {
        let ended = self.start(0, &self.document.digest, "")?.wait()?;
        ended.expect_success()?;
        Ok(ended.said.trim().to_owned())
    }

    /// Starts a script on a host.
    pub(crate) fn start(&self, host: usize, script: &Script, digest: &str) -> Result<Running> {
        let output = tempfile::tempfile().context("cannot make a file")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [build::workspace()].into_iter().chain(std::env::split_paths(&path));
        let mut command = Command::new("bash");
        command.args(["-c", &script.0, "bash", digest]).current_dir(self.path(host, ""));
        command.env("PATH", std::env::join_paths(path)?).env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output.try_clone()?);
        let network = self.lan.hosts.get(host).context("there is no such host")?;
        let shell = network.call(|| command.spawn().context("cannot start bash"))?;
        Ok(Running { shell, output })
    }

    /// How many bytes the sender has put on its wire.
    pub(crate) fn sent_bytes(&self) -> Result<u64> {
        sent_bytes(self.lan.hosts.first().context("there is no sender")?)
    }

    /// Puts a FIFO in the place of the source, so that the sender has only what it is given.
    pub(crate) fn feed_by_hand(&self) -> Result<Feed> {
        let fifo = self.sent();
        fs::remove_file(&fifo).context("cannot unlink the source")?;
        rustix::fs::mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).context("cannot make a FIFO")?;
        Ok(Feed { source: File::open(self.source())?, fifo })
    }

    /// A host has all copies, whole, and nothing else.
    pub(crate) fn check_copies(&self, host: usize) -> Result<()> {
        let names: BTreeSet<_> =
            (0..COPIES).map(|peer| PathBuf::from(format!("models/{peer}.bin"))).collect();
        let found = self.files(host)?;
        ensure!(found == names, "host {host} has {found:?}");
        for name in names {
            let copy = self.path(host, "").join(name);
            let difference = files::first_difference(&self.source(), &copy)?;
            ensure!(difference.is_none(), "{copy:?} differs at {difference:?}");
        }
        Ok(())
    }

    /// A host has nothing.
    pub(crate) fn check_nothing(&self, host: usize) -> Result<()> {
        let found = self.files(host)?;
        ensure!(found.is_empty(), "host {host} has {found:?}");
        Ok(())
    }

    /// The files of a host; its directories too, if they are empty.
    pub(crate) fn files(&self, host: usize) -> Result<BTreeSet<PathBuf>> {
        let root = self.path(host, "");
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&root)? {
            let path = entry?.path();
            let within: Vec<_> = if path.is_dir() {
                fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?
            } else {
                Vec::new()
            };
            let paths = if within.is_empty() { vec![path] } else { within };
            found.extend(
                paths.iter().filter_map(|path| path.strip_prefix(&root).ok()).map(Path::to_owned),
            );
        }
        Ok(found)
    }
}

/// The source, and the FIFO that the sender takes for it.
#[derive(Debug)]
pub(crate) struct Feed {
    source: File,
    fifo: PathBuf,
}

impl Feed {
    /// Waits until the sender reads, which it does once it has begun, and gives it half of the source.
    ///
    /// When this returns, every host has most of that: the sender holds a few MiB at most.
    pub(crate) fn give_half(&self, sender: &mut Running) -> Result<File> {
        let mut fifo = loop {
            let writer = OpenOptions::new()
                .write(true)
                .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                .open(&self.fifo);
            match writer {
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
                result => break result.context("cannot open the FIFO")?,
            }
            ensure!(sender.shell.try_wait()?.is_none(), "the sender ended before it had begun");
            thread::sleep(Duration::from_millis(5));
        };
        rustix::fs::fcntl_setfl(&fifo, OFlags::empty()).context("cannot make the FIFO block")?;
        std::io::copy(&mut (&self.source).take(BYTES / 2), &mut fifo)
            .context("cannot write to the FIFO")?;
        Ok(fifo)
    }

    /// Gives it the other half, and the end.
    pub(crate) fn give_rest(mut self, mut fifo: File) -> Result<()> {
        std::io::copy(&mut self.source, &mut fifo).context("cannot write to the FIFO").map(drop)
    }
}

impl Running {
    /// Kills the process of this name that the script has started.
    pub(crate) fn kill(&self, name: &str) -> Result<()> {
        for pid in processes::children(self.shell.id())? {
            match fs::read_to_string(format!("/proc/{pid}/comm")) {
                Ok(found) if found.trim_end() == name => return processes::kill(pid),
                Err(error) if error.kind() != ErrorKind::NotFound => bail!(error),
                _ => {}
            }
        }
        // A shell whose script is one command becomes that command.
        let own = fs::read_to_string(format!("/proc/{}/comm", self.shell.id()))?;
        ensure!(own.trim_end() == name, "there is no {name} to kill");
        processes::kill(self.shell.id())
    }

    pub(crate) fn wait(mut self) -> Result<Ended> {
        let status = self.shell.wait().context("cannot wait for bash")?;
        let mut said = Vec::new();
        self.output.rewind()?;
        self.output.read_to_end(&mut said)?;
        // The receivers draw a line again and again.
        let said = String::from_utf8_lossy(&said).replace('\r', "\n");
        Ok(Ended { status, said })
    }
}

impl Ended {
    pub(crate) fn expect_success(&self) -> Result<()> {
        ensure!(self.status.success(), "{}\n{}", self.status, self.said);
        Ok(())
    }

    pub(crate) fn expect_failure(&self) -> Result<()> {
        ensure!(self.status.code().is_some_and(|code| code != 0), "{}\n{}", self.status, self.said);
        Ok(())
    }
}
