//! Where a worker's runs take place: namespaces and file systems that it shares with nobody, so that
//! whatever is left in them is its runs'.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{mounts, network};

const SHARED_MEMORY: &str = "/dev/shm";

/// The calling thread's own `/dev/shm`, abstract names, and directory.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// Takes the calling thread, and what it starts from now on, to namespaces of its own, where a
    /// fresh file system is mounted at `directory`. They end with the thread.
    pub(crate) fn enter(directory: &Path) -> Result<Self> {
        network::enter_new()?;
        mounts::enter_new()?;
        for path in [Path::new(SHARED_MEMORY), directory] {
            mounts::mount_memory(path)?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// A path that is no run's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// An empty directory for the next run.
    pub(crate) fn new_scene(&self) -> Result<PathBuf> {
        let scene = self.path("scene");
        if scene.exists() {
            fs::remove_dir_all(&scene).with_context(|| format!("cannot remove {scene:?}"))?;
        }
        fs::create_dir(&scene).with_context(|| format!("cannot make {scene:?}"))?;
        Ok(scene)
    }

    /// Names in `/dev/shm`, which are removed.
    pub(crate) fn take_shared_memory(&self) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(SHARED_MEMORY)? {
            let path = entry?.path();
            fs::remove_file(&path).with_context(|| format!("cannot remove {path:?}"))?;
            names.push(path);
        }
        Ok(names)
    }
}

/// What is below a directory.
#[derive(Debug, Default)]
pub(crate) struct Below {
    /// All files, with what they hold.
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// The directories that hold nothing.
    pub(crate) empty: Vec<PathBuf>,
}

impl Below {
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let mut below = Self::default();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            let mut is_empty = true;
            for entry in fs::read_dir(&directory)? {
                is_empty = false;
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let bytes = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
                    below.files.insert(path.strip_prefix(root)?.to_owned(), bytes);
                }
            }
            if is_empty {
                below.empty.push(directory.strip_prefix(root)?.to_owned());
            }
        }
        Ok(below)
    }
}
