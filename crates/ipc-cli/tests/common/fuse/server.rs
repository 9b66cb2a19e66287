//! Answers the kernel, as far as the faults let it.

use std::ffi::OsStr;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;

use super::tree::{Node, round};
use super::{Fault, Op, Shared, State};

/// Nothing that the kernel was told of a file holds any longer than its call.
const NO_TIME: Duration = Duration::ZERO;

/// All that the kernel was told of is the first of its number.
const GENERATION: Generation = Generation(0);

/// No operation has a state of its own.
const NO_HANDLE: FileHandle = FileHandle(0);

/// What `statfs` says there is, in blocks of 4 KiB: room for everything.
const BLOCKS: u64 = 1 << 30;

#[derive(Debug)]
pub(super) struct Server(Arc<Shared>);

impl Server {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Waits as long as the faults hang this operation, then fails if they fail it.
    fn admit(&self, op: Op) -> Result<MutexGuard<'_, State>, Errno> {
        let hangs = |fault: &Fault| match fault {
            Fault::Hangs(other) => *other == op,
            Fault::HangsAltogether => true,
            _ => false,
        };
        let state = self.wait_out(op, self.0.lock(), hangs);
        match state.error_of(op) {
            Some(errno) => Err(errno),
            None => Ok(state),
        }
    }

    /// The same for some bytes of a file, and takes the time that they take. Fewer of them may be let through
    /// than are asked for, but then at least one.
    fn admit_bytes(
        &self,
        op: Op,
        offset: u64,
        length: usize,
    ) -> Result<(MutexGuard<'_, State>, usize), Errno> {
        let range = offset..offset + length as u64;
        let hangs = |fault: &Fault| matches!(fault, Fault::HangsAt(other, byte) if *other == op && range.contains(byte));
        let state = self.admit(op)?;
        let state = self.wait_out(op, state, hangs);
        let failing = state.faults.iter().find_map(|fault| match fault {
            Fault::FailsAt(other, byte, errno) if *other == op && range.contains(byte) => {
                Some((*byte, *errno))
            }
            _ => None,
        });
        // Of a read, the kernel takes bytes that are missing for the end of the file.
        let length = match failing {
            Some((byte, _)) if op == Op::Write && byte > offset => {
                usize::try_from(byte - offset).unwrap()
            }
            Some((_, errno)) => return Err(errno),
            None => length,
        };
        Ok((self.take_time(op, state, length), length))
    }

    fn wait_out<'s>(
        &'s self,
        op: Op,
        mut state: MutexGuard<'s, State>,
        hangs: impl Fn(&Fault) -> bool,
    ) -> MutexGuard<'s, State> {
        let must_hang = |state: &mut State| !state.is_over && state.faults.iter().any(&hangs);
        if !must_hang(&mut state) {
            return state;
        }
        state.hanging.push(op);
        self.0.changed.notify_all();
        let mut state = self.0.changed.wait_while(state, must_hang).unwrap();
        let place = state.hanging.iter().position(|other| *other == op).unwrap();
        state.hanging.remove(place);
        state
    }

    /// Waits as long as so many bytes take after all those before.
    fn take_time<'s>(
        &'s self,
        op: Op,
        mut state: MutexGuard<'s, State>,
        length: usize,
    ) -> MutexGuard<'s, State> {
        let rate = |state: &State| {
            state.faults.iter().find_map(|fault| match fault {
                Fault::Slow(other, rate) if *other == op => Some(*rate),
                _ => None,
            })
        };
        let Some(bytes_per_second) = rate(&state) else { return state };
        let time = Duration::from_nanos(length as u64 * 1_000_000_000 / bytes_per_second);
        let now = Instant::now();
        let until = state.busy_until.unwrap_or(now).max(now) + time;
        state.busy_until = Some(until);
        let must_wait =
            |state: &mut State| !state.is_over && rate(state).is_some() && Instant::now() < until;
        while must_wait(&mut state) {
            let left = until.saturating_duration_since(Instant::now());
            state = self.0.changed.wait_timeout_while(state, left, must_wait).unwrap().0;
        }
        state
    }
}

impl State {
    fn error_of(&self, op: Op) -> Option<Errno> {
        let mut errors = self.faults.iter().filter_map(|fault| match fault {
            Fault::Fails(other, errno) if *other == op => Some(*errno),
            _ => None,
        });
        errors.next()
    }

    /// The time now, as this file system has it.
    fn now(&self) -> SystemTime {
        self.coarse(SystemTime::now())
    }

    fn coarse(&self, time: SystemTime) -> SystemTime {
        let granule = self.faults.iter().find_map(|fault| match fault {
            Fault::CoarseTimes(granule) => Some(*granule),
            _ => None,
        });
        granule.map_or(time, |granule| round(time, granule))
    }

    fn claimed_size(&self) -> Option<u64> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::StandInSize(size) => Some(*size),
            _ => None,
        })
    }

    fn attributes(&mut self, ino: u64) -> Result<FileAttr, Errno> {
        let claimed = self.claimed_size();
        Ok(self.tree.get(ino)?.attributes(ino, claimed))
    }

    /// How a file is opened.
    fn open_flags(&self) -> FopenFlags {
        match self.claimed_size() {
            Some(_) => FopenFlags::FOPEN_DIRECT_IO,
            None => FopenFlags::empty(),
        }
    }

    fn add(
        &mut self,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        kind: FileType,
        mode: u32,
    ) -> Result<FileAttr, Errno> {
        let owner = (request.uid(), request.gid());
        let mode = u16::try_from(mode & 0o7777).unwrap();
        let node = Node::new(kind, mode, owner, self.now());
        let ino = self.tree.add(parent.0, name, node)?;
        self.attributes(ino)
    }
}

/// Answers with what an operation came to, in the form that its reply has.
macro_rules! answer {
    ($reply:ident, $result:expr, |$value:pat_param| $ok:expr) => {
        match $result {
            Ok($value) => $ok,
            Err(errno) => $reply.error(fuser::Errno::from_i32(Errno::raw_os_error(errno))),
        }
    };
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.admit(Op::Lookup).and_then(|mut state| {
            let ino = state.tree.find(parent.0, name)?;
            state.attributes(ino)
        });
        answer!(reply, found, |attributes| reply.entry(&NO_TIME, &attributes, GENERATION));
    }

    fn forget(&self, _: &Request, ino: INodeNo, _: u64) {
        self.0.lock().tree.forget(ino.0);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = self.admit(Op::GetAttr).and_then(|mut state| state.attributes(ino.0));
        answer!(reply, attributes, |attributes| reply.attr(&NO_TIME, &attributes));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.admit(Op::SetAttr).and_then(|mut state| {
            let now = state.now();
            let time = |time: Option<TimeOrNow>| match time? {
                TimeOrNow::Now => Some(now),
                TimeOrNow::SpecificTime(time) => Some(state.coarse(time)),
            };
            let modified = time(modified).or(size.map(|_| now));
            let accessed = time(accessed);
            let node = state.tree.get(ino.0)?;
            node.mode = mode.map_or(node.mode, |mode| u16::try_from(mode & 0o7777).unwrap());
            node.uid = uid.unwrap_or(node.uid);
            node.gid = gid.unwrap_or(node.gid);
            node.accessed = accessed.unwrap_or(node.accessed);
            node.modified = modified.unwrap_or(node.modified);
            node.changed = now;
            if let Some(size) = size {
                node.bytes.resize(usize::try_from(size).unwrap(), 0);
            }
            state.attributes(ino.0)
        });
        answer!(reply, set, |attributes| reply.attr(&NO_TIME, &attributes));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let made = self
            .admit(Op::Mkdir)
            .and_then(|mut state| state.add(request, (parent, name), FileType::Directory, mode));
        answer!(reply, made, |attributes| reply.entry(&NO_TIME, &attributes, GENERATION));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let created = self.admit(Op::Create).and_then(|mut state| {
            let attributes = state.add(request, (parent, name), FileType::RegularFile, mode)?;
            Ok((attributes, state.open_flags()))
        });
        answer!(reply, created, |(attributes, flags)| {
            reply.created(&NO_TIME, &attributes, GENERATION, NO_HANDLE, flags);
        });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.admit(Op::Open).map(|state| state.open_flags());
        answer!(reply, opened, |flags| reply.opened(NO_HANDLE, flags));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // What lies behind the end neither fails nor takes time.
        let length = self.0.lock().tree.get(ino.0).map_or(0, |node| node.bytes.len() as u64);
        let size = length.saturating_sub(offset).min(size.into());
        let size = usize::try_from(size).unwrap();
        let read = self
            .admit_bytes(Op::Read, offset, size)
            .and_then(|(mut state, size)| state.tree.read(ino.0, offset, size));
        self.0.changed.notify_all();
        answer!(reply, read, |bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let admitted = self.admit_bytes(Op::Write, offset, bytes.len());
        let written = admitted.and_then(|(mut state, length)| {
            let now = state.now();
            state.tree.write(ino.0, offset, &bytes[..length])?;
            let node = state.tree.get(ino.0)?;
            (node.modified, node.changed) = (now, now);
            Ok(u32::try_from(length).unwrap())
        });
        self.0.changed.notify_all();
        answer!(reply, written, |length| reply.written(length));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer!(reply, self.admit(Op::Flush), |_| reply.ok());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.admit(Op::Fsync), |_| reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.admit(Op::Fsync), |_| reply.ok());
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.admit(Op::Link).and_then(|mut state| {
            state.tree.link(ino.0, parent.0, name)?;
            state.attributes(ino.0)
        });
        answer!(reply, linked, |attributes| reply.entry(&NO_TIME, &attributes, GENERATION));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let op = if flags.is_empty() { Op::Rename } else { Op::RenameNoReplace };
        let renamed = self.admit(op).and_then(|mut state| {
            match flags {
                RenameFlags::RENAME_NOREPLACE
                    if state.tree.find(new_parent.0, new_name).is_ok() =>
                {
                    return Err(Errno::EXIST);
                }
                RenameFlags::RENAME_NOREPLACE => {}
                flags if flags.is_empty() => {}
                _ => return Err(Errno::INVAL),
            }
            state.tree.rename((parent.0, name), (new_parent.0, new_name))
        });
        answer!(reply, renamed, |()| reply.ok());
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed =
            self.admit(Op::Unlink).and_then(|mut state| state.tree.unlink(parent.0, name));
        answer!(reply, removed, |()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.admit(Op::Rmdir).and_then(|mut state| state.tree.unlink(parent.0, name));
        answer!(reply, removed, |()| reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = self.admit(Op::ReadDir).and_then(|mut state| {
            let entries = state.tree.get(ino.0)?.entries.clone();
            let kind = |(name, ino)| Some((state.tree.get(ino).ok()?.kind, name, ino));
            Ok(entries.into_iter().filter_map(kind).collect::<Vec<_>>())
        });
        answer!(reply, entries, |entries| {
            let entries = entries.into_iter().zip(1..).skip(usize::try_from(offset).unwrap());
            for ((kind, name, ino), next) in entries {
                if reply.add(INodeNo(ino), next, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        answer!(reply, self.admit(Op::StatFs), |_| {
            reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 4096, 255, 4096);
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let refused = self.admit(Op::Fallocate).and(Err::<(), _>(Errno::NOSYS));
        answer!(reply, refused, |()| reply.ok());
    }
}
