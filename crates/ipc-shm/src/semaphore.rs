//! A POSIX named semaphore that leaves no name behind, whoever is killed when.
#![allow(unsafe_code, reason = "rustix has no semaphores, so the C library's are called")]

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use ipc_core::io::{now, timespec, write_all};
use ipc_core::{Directory, FileName, Guard};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::mm::MprotectFlags;
use rustix::time::Timespec;

use crate::Error;
use crate::segment::SHARED_MEMORY;

unsafe extern "C" {
    /// In glibc since 2.30, but not in the libc crate. `sem_timedwait` goes by a clock that can be
    /// set back, and would then wait for hours.
    fn sem_clockwait(
        sem: *mut libc::sem_t,
        clock: libc::clockid_t,
        deadline: *const libc::timespec,
    ) -> libc::c_int;
}

/// A named semaphore that has lost its name: peers inherit it by fork.
#[derive(Debug)]
pub(crate) struct Semaphore(NonNull<libc::sem_t>);

impl Semaphore {
    /// Makes a semaphore of value 0 under an unguessable name, opens it, and removes the name.
    ///
    /// `sem_open` with `O_CREAT` goes through a temporary name of its own choosing, which a
    /// `SIGKILL` leaves behind. So the file is created here, opened by name, and unlinked, while a
    /// [`Guard`] stands by: the name stays only if both are killed within the microseconds between.
    ///
    /// # Errors
    /// [`Error::Semaphore`], [`Error::Core`]
    pub(crate) fn create() -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Semaphore { source };
        let token = FileName::random_token();
        let directory = Directory::open(SHARED_MEMORY.as_ref())?;
        let name = FileName::new(format!("sem.{token:016x}").as_bytes())?;
        // It is needed only if this process is killed.
        let guard = Guard::of_name(&directory, &name).ok();
        let created = create_file(&directory, &name);
        let opened = created.and_then(|()| open_by_name(token)).map_err(failed);
        let removed = directory.remove(&name);
        match (guard, &removed) {
            (Some(guard), Ok(())) => guard.dismiss(),
            // It may have better luck.
            (Some(guard), Err(_)) => _ = guard.clean_up(),
            (None, _) => {}
        }
        removed?;
        opened
    }

    /// Sleeps until somebody posts, for `most` at most. Why it woke is not told.
    pub(crate) fn wait(&self, most: Duration) {
        let Timespec { tv_sec, tv_nsec } = timespec(now().saturating_add(most));
        let deadline = libc::timespec { tv_sec, tv_nsec };
        // SAFETY: The semaphore was opened and never closed; the deadline outlives the call.
        unsafe { sem_clockwait(self.0.as_ptr(), libc::CLOCK_MONOTONIC, &raw const deadline) };
    }

    /// Peer, after the fork: gives up the right to write it but in [`Semaphore::post`], if the kernel lets it.
    ///
    /// The C library believes what it finds there, and aborts whoever uses a semaphore that is none any
    /// more. So a peer that writes where it should not must not reach what all others use.
    pub(crate) fn restrict(&self) {
        let _ = self.protect(MprotectFlags::READ);
    }

    /// Wakes who waits.
    pub(crate) fn post(&self) {
        // Without the right, nobody is woken; but nobody sleeps for long.
        if self.protect(MprotectFlags::READ | MprotectFlags::WRITE).is_ok() {
            // SAFETY: The semaphore was opened and never closed. An overflow, its only error, says that
            // the server has wake-ups enough.
            unsafe { libc::sem_post(self.0.as_ptr()) };
            let _ = self.protect(MprotectFlags::READ);
        }
    }

    /// Says what this process may do with the page that the semaphore is in.
    fn protect(&self, rights: MprotectFlags) -> rustix::io::Result<()> {
        let page = self.0.as_ptr().cast();
        // SAFETY: `sem_open` maps the semaphore's file, so nothing else is in that page; and who loses the
        // right to write it only posts, with the right taken back for that long.
        unsafe { rustix::mm::mprotect(page, size_of::<libc::sem_t>(), rights) }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: It was opened by `sem_open`, and nobody uses it any more.
        unsafe { libc::sem_close(self.0.as_ptr()) };
    }
}

/// Opens the semaphore whose name has this `token`.
fn open_by_name(token: u64) -> io::Result<Semaphore> {
    let name = CString::new(format!("/{token:016x}"))?;
    loop {
        // SAFETY: The name ends in NUL. Without O_CREAT, no further arguments are read.
        let opened = unsafe { libc::sem_open(name.as_ptr(), 0) };
        // SEM_FAILED is the null pointer on Linux.
        match NonNull::new(opened).map(Semaphore).ok_or_else(io::Error::last_os_error) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Creates a file that holds a semaphore of value 0, as glibc keeps its named ones: the bytes of a `sem_t`
/// that is shared between processes.
fn create_file(directory: &Directory, name: &FileName) -> io::Result<()> {
    /// Room for a `sem_t` all of whose bytes are initialised, whichever `sem_init` sets.
    #[repr(C, align(16))]
    struct Bytes([u8; size_of::<libc::sem_t>()]);
    const { assert!(align_of::<Bytes>() >= align_of::<libc::sem_t>()) };
    let mut semaphore = Bytes([0; _]);
    // SAFETY: The pointer is to room for a `sem_t`, which nothing else uses.
    if unsafe { libc::sem_init((&raw mut semaphore).cast(), 1, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let fd = retry_on_intr(|| rustix::fs::openat(directory, name.as_bytes(), flags, mode))?;
    write_all(fd, &semaphore.0)
}
