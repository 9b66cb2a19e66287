//! Files and directories in memory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::io::Errno;

/// All files and directories, by inode number.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
    last: u64,
    /// Bytes that were written to any of them, removed ones included.
    written: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: FileType,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names that it has; a directory's own ones are not counted.
    pub(super) links: u32,
    pub(super) accessed: SystemTime,
    pub(super) modified: SystemTime,
    pub(super) changed: SystemTime,
    pub(super) bytes: Vec<u8>,
    pub(super) entries: BTreeMap<OsString, u64>,
    read: u64,
    written: u64,
}

impl Tree {
    /// An empty directory that belongs to this user.
    pub(super) fn new(uid: u32, gid: u32) -> Self {
        let root = Node::new(FileType::Directory, 0o755, (uid, gid), SystemTime::now());
        Self { nodes: BTreeMap::from([(INodeNo::ROOT.0, root)]), last: INodeNo::ROOT.0, written: 0 }
    }

    pub(super) fn get(&mut self, ino: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::STALE)
    }

    /// The inode number of a name in a directory.
    pub(super) fn find(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        let parent = self.nodes.get(&parent).ok_or(Errno::STALE)?;
        parent.entries.get(name).copied().ok_or(Errno::NOENT)
    }

    /// Adds a file or a directory under a name that nothing has.
    pub(super) fn add(&mut self, parent: u64, name: &OsStr, node: Node) -> Result<u64, Errno> {
        self.last += 1;
        self.nodes.insert(self.last, node);
        self.link(self.last, parent, name)?;
        Ok(self.last)
    }

    /// Gives a file one more name, which nothing has.
    pub(super) fn link(&mut self, ino: u64, parent: u64, name: &OsStr) -> Result<(), Errno> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EXIST);
        }
        let now = self.get(ino)?.changed;
        let directory = self.get(parent)?;
        directory.entries.insert(name.to_owned(), ino);
        (directory.modified, directory.changed) = (now, now);
        self.get(ino)?.links += 1;
        Ok(())
    }

    /// Takes a name away from a file or from a directory that is empty.
    pub(super) fn unlink(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        let ino = self.find(parent, name)?;
        let node = self.get(ino)?;
        if !node.entries.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        node.links -= 1;
        self.get(parent)?.entries.remove(name);
        Ok(())
    }

    /// Moves a name over whatever has the other one.
    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        let ino = self.find(from.0, from.1)?;
        if self.find(to.0, to.1) == Ok(ino) {
            return Ok(());
        }
        if self.find(to.0, to.1).is_ok() {
            self.unlink(to.0, to.1)?;
        }
        self.link(ino, to.0, to.1)?;
        self.get(from.0)?.entries.remove(from.1);
        self.get(ino)?.links -= 1;
        Ok(())
    }

    /// Forgets a file that neither has a name nor is open.
    pub(super) fn forget(&mut self, ino: u64) {
        if self.nodes.get(&ino).is_some_and(|node| node.links == 0 && ino != INodeNo::ROOT.0) {
            self.nodes.remove(&ino);
        }
    }

    /// Bytes of a file in the uppermost directory that were read and written.
    pub(super) fn moved(&self, name: &str) -> (u64, u64) {
        let node = self.find(INodeNo::ROOT.0, OsStr::new(name)).ok();
        let node = node.and_then(|ino| self.nodes.get(&ino));
        node.map_or((0, 0), |node| (node.read, node.written))
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn read(&mut self, ino: u64, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        let node = self.get(ino)?;
        let start = usize::try_from(offset).unwrap().min(node.bytes.len());
        let end = start.saturating_add(size).min(node.bytes.len());
        node.read += (end - start) as u64;
        Ok(node.bytes[start..end].to_vec())
    }

    pub(super) fn write(&mut self, ino: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let node = self.get(ino)?;
        let start = usize::try_from(offset).unwrap();
        let end = start + bytes.len();
        if node.bytes.len() < end {
            node.bytes.resize(end, 0);
        }
        node.bytes[start..end].copy_from_slice(bytes);
        node.written += bytes.len() as u64;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl Node {
    pub(super) fn new(kind: FileType, mode: u16, (uid, gid): (u32, u32), now: SystemTime) -> Self {
        let (bytes, entries) = (Vec::new(), BTreeMap::new());
        let (accessed, modified, changed) = (now, now, now);
        let (links, read, written) = (0, 0, 0);
        Self {
            kind,
            mode,
            uid,
            gid,
            links,
            accessed,
            modified,
            changed,
            bytes,
            entries,
            read,
            written,
        }
    }

    /// What `stat` gives; of another size than it has, if it claims to be.
    pub(super) fn attributes(&self, ino: u64, claimed: Option<u64>) -> FileAttr {
        let is_directory = self.kind == FileType::Directory;
        let size = claimed.filter(|_| !is_directory).unwrap_or(self.bytes.len() as u64);
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: (self.bytes.len() as u64).div_ceil(512),
            atime: self.accessed,
            mtime: self.modified,
            ctime: self.changed,
            crtime: self.changed,
            kind: self.kind,
            perm: self.mode,
            nlink: if is_directory { 2 } else { self.links },
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// The time, rounded down to a multiple of `granule`.
pub(super) fn round(time: SystemTime, granule: Duration) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let over = since.as_nanos().checked_rem(granule.as_nanos()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + (since - Duration::from_nanos(u64::try_from(over).unwrap()))
}
