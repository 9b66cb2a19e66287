//! A machine to install things on: this system with another layer over it, which nobody else sees and
//! which is gone when the task ends.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use super::command::output;
use crate::mounts;

/// What is written to in any case when a package comes or goes.
const RECORDS: [&str; 3] = ["var/cache", "var/lib/dpkg", "var/log"];

/// The machine, which is there for the thread that has made it and what it starts.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Its `/`.
    root: PathBuf,
    /// What it has that this system has not.
    layer: PathBuf,
}

impl Machine {
    /// Makes the machine from an empty directory, where mounts hide all of it from everybody else.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "only root can install packages");
        mounts::enter_new()?;
        mounts::mount_memory(directory)?;
        let [root, layer, work] = ["root", "layer", "work"].map(|name| directory.join(name));
        for path in [&root, &layer, &work] {
            fs::create_dir(path).with_context(|| format!("cannot make {path:?}"))?;
        }
        let options = [b"lowerdir=/,upperdir=", layer.as_os_str().as_bytes(), b",workdir="];
        let options = [&options.concat(), work.as_os_str().as_bytes()].concat();
        mount("overlay", &root, "overlay", MountFlags::empty(), &*CString::new(options)?)
            .context("cannot mount a layer over /")?;
        for path in ["proc", "dev"] {
            mount_bind_recursive(Path::new("/").join(path), root.join(path))
                .with_context(|| format!("cannot mount /{path}"))?;
        }
        for path in ["dev/shm", "tmp"] {
            mounts::mount_memory(&root.join(path))?;
        }
        Ok(Self { root, layer })
    }

    /// Copies a file to `/tmp`; its path there.
    pub(crate) fn bring(&self, file: &Path) -> Result<PathBuf> {
        let name = file.file_name().context("a file has a name")?;
        let path = Path::new("tmp").join(name);
        fs::copy(file, self.root.join(&path)).with_context(|| format!("cannot copy {file:?}"))?;
        Ok(Path::new("/").join(path))
    }

    /// Whether it has this file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// Runs a script, in which these variables are set, until a command in it fails; what it printed.
    pub(crate) fn run(&self, script: &str, variables: &[(&str, &str)]) -> Result<String> {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["sh", "-euxc", script]).env_clear();
        command.envs([("HOME", "/tmp"), ("LC_ALL", "C.UTF-8"), ("TERM", "dumb")]);
        // As sessions have it; without it fish looks below /usr alone.
        command.env("XDG_DATA_DIRS", "/usr/local/share:/usr/share");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        output(command.envs(variables.iter().copied()))
    }

    /// What it has that this system has not, but for the package manager's records.
    pub(crate) fn additions(&self) -> Result<Vec<PathBuf>> {
        let (mut found, mut directories) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(self.layer.join(&directory))? {
                let entry = entry?;
                let path = directory.join(entry.file_name());
                let is_directory = entry.file_type()?.is_dir();
                if RECORDS.iter().any(|record| path == Path::new(record)) {
                    continue;
                }
                if !is_directory || !Path::new("/").join(&path).exists() {
                    found.push(path.clone());
                }
                if is_directory {
                    directories.push(path);
                }
            }
        }
        Ok(found)
    }

    /// Whether something in the layer is a directory.
    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        self.layer.join(path).is_dir()
    }
}
