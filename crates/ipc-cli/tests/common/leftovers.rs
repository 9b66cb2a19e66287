//! What a run may leave nothing of: files, names in `/dev/shm`, processes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions};

/// No run takes so long. It makes a failure of what would otherwise never end, and nothing else
/// depends on it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Everything below a directory, in a form that shows whether it was touched.
pub(crate) type Snapshot = BTreeMap<PathBuf, Entry>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) is_directory: bool,
    pub(crate) inode: u64,
    mode: u32,
    /// Size, seconds and nanoseconds of the last modification; not of directories and FIFOs, which
    /// change by being used.
    version: Option<(u64, i64, i64)>,
}

pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut entries = Snapshot::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        // What cannot be read cannot be written to either.
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let entry = Entry::of(&path.symlink_metadata().unwrap());
            if entry.is_directory {
                directories.push(path.clone());
            }
            entries.insert(path, entry);
        }
    }
    entries
}

impl Entry {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        let version = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        Self {
            is_directory: kind.is_dir(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            version: (!kind.is_dir() && !kind.is_fifo()).then_some(version),
        }
    }
}

/// The names in `/dev/shm`.
pub(crate) fn shared_memory_names() -> BTreeSet<OsString> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Which names in `/dev/shm` are not in `before` and belong to nobody.
///
/// Other runs and other programs use it at the same time. Whoever has just made a name holds the
/// file open, or has mapped it, until the name is removed again; so a file that no process has is
/// either gone when it is looked for again, or left over.
pub(crate) fn orphaned_shared_memory(before: &BTreeSet<OsString>) -> Vec<PathBuf> {
    let new = shared_memory_names().into_iter().filter(|name| !before.contains(name));
    let files = new.filter_map(|name| {
        let path = Path::new("/dev/shm").join(name);
        let metadata = path.symlink_metadata().ok().filter(|metadata| !metadata.is_dir())?;
        (metadata.uid() == rustix::process::geteuid().as_raw()).then(|| (path, metadata.ino()))
    });
    let files: Vec<_> = files.collect();
    let unused = files.into_iter().filter(|(path, inode)| !is_used(path, *inode));
    let left = unused.filter(|(path, inode)| {
        path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == *inode)
    });
    left.map(|(path, _)| path).collect()
}

/// Whether a process has this file open or mapped.
fn is_used(path: &Path, inode: u64) -> bool {
    let device = path.parent().and_then(|parent| parent.metadata().ok()).map(|parent| parent.dev());
    processes().any(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut open = descriptors.filter_map(|descriptor| descriptor.path().metadata().ok());
        open.any(|file| file.ino() == inode && Some(file.dev()) == device)
            || fs::read(process.join("maps")).is_ok_and(|maps| {
                maps.split(|&byte| byte == b'\n')
                    .any(|line| line.ends_with(path.as_os_str().as_bytes()))
            })
    })
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process's children, oldest first; none of one that has ended.
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_pid();
    let list =
        || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // The kernel puts the list together piece by piece: one that changes meanwhile may have children
    // that never were there together, and lack others.
    let mut children = list();
    loop {
        let again = list();
        if again == children {
            break;
        }
        children = again;
    }
    let pid = |pid: &str| Pid::from_raw(pid.parse().unwrap()).unwrap();
    children.split_whitespace().map(pid).collect()
}

/// Whoever is in the session that `leader` began, apart from itself; zombies are as well.
pub(crate) fn session_of(leader: Pid) -> Vec<Pid> {
    let members = processes().filter(|&pid| stat_field(pid, 6) == Some(leader.as_raw_pid()));
    members.filter_map(Pid::from_raw).filter(|&pid| pid != leader).collect()
}

/// A number in `/proc/<pid>/stat`, counted as in proc(5), after the name of the program.
fn stat_field(pid: i32, field: usize) -> Option<i32> {
    after_name(pid)?.split_whitespace().nth(field - 3)?.parse().ok()
}

/// The letter that says what a process does: `T` if it is stopped.
pub(crate) fn state_of(pid: Pid) -> Option<char> {
    after_name(pid.as_raw_pid())?.trim_start().chars().next()
}

/// How often a process has gone to sleep by itself.
pub(crate) fn sleeps_of(pid: Pid) -> u64 {
    proc_number(pid, "status", "voluntary_ctxt_switches:")
}

/// How many bytes a process has read, from wherever.
pub(crate) fn bytes_read_by(pid: Pid) -> u64 {
    proc_number(pid, "io", "rchar:")
}

/// The number behind `label` in a process's `file`; 0 of one that has ended.
fn proc_number(pid: Pid, file: &str, label: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_pid()));
    let text = text.unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix(label)?.trim().parse().ok());
    number.unwrap_or(0)
}

fn after_name(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')').map(|(_, fields)| fields.to_owned())
}

/// Waits until one of these is ready.
pub(crate) fn await_any(fds: &mut [PollFd<'_>], what: &str) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = rustix::io::retry_on_intr(|| poll(fds, Some(&patience))).unwrap();
    assert!(ready > 0, "{what} does not come");
}

/// Waits until a process has ended; the caller has not reaped it.
pub(crate) fn await_end(pid: Pid) {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    await_any(&mut [PollFd::new(&pidfd, PollFlags::IN)], &format!("the end of process {pid:?}"));
}

/// All processes of this program that work in `directory`, whatever session they are in.
pub(crate) fn processes_of(program: &Path, directory: &Path) -> Vec<Pid> {
    let program = program.canonicalize().unwrap();
    let leads_to = |pid: i32, link: &str, path: &Path| {
        fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|target| target == path)
    };
    let works = |&pid: &i32| leads_to(pid, "exe", &program) && leads_to(pid, "cwd", directory);
    processes().filter(works).filter_map(Pid::from_raw).collect()
}

/// Waits for the end of all processes of this program that work in `directory`: those that clean up are in
/// sessions of their own.
pub(crate) fn await_clean_up(program: &Path, directory: &Path) {
    while let Some(&pid) = processes_of(program, directory).first() {
        // It may have ended meanwhile, and has come to be this process's child if its parent is dead.
        if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            await_any(&mut [PollFd::new(&pidfd, PollFlags::IN)], &format!("the end of {pid:?}"));
        }
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Waits for the end of everybody whom a dead server left behind.
pub(crate) fn reap_session_of(leader: Pid) {
    for pid in session_of(leader) {
        await_end(pid);
        // Their parent is dead, so they have come to be this process's children.
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap();
    }
}
