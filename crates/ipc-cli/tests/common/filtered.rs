//! Runs under a seccomp filter, as container engines and service managers set one up.
#![allow(unsafe_code, reason = "a filter is installed between fork and exec")]

use std::ffi::{c_int, c_long, c_uint};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;

use super::Invocation;

/// System calls that are refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    /// Its number.
    call: c_long,
    /// Only calls with this argument, counted from 0, that has this value.
    argument: Option<(c_uint, c_int)>,
}

/// All calls of this number.
pub(crate) const fn all(call: c_long) -> Refused {
    Refused { call, argument: None }
}

/// Calls whose argument `index`, counted from 0, is `value`.
pub(crate) const fn with(call: c_long, index: c_uint, value: c_int) -> Refused {
    Refused { call, argument: Some((index, value)) }
}

/// A program for the kernel that is run at every system call.
#[derive(Debug)]
pub(super) struct Filter(Vec<libc::sock_filter>);

impl Invocation<'_> {
    /// Lets the kernel refuse these calls to the program and its peers, with this error.
    pub(crate) fn refused(mut self, calls: &[Refused], errno: Errno) -> Self {
        self.filter = Some(Filter::new(calls, errno));
        self
    }
}

impl Filter {
    fn new(calls: &[Refused], errno: Errno) -> Self {
        let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
        let jump = |value: u32, otherwise| libc::sock_filter {
            jf: otherwise,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
        };
        let give = |answer| statement(libc::BPF_RET | libc::BPF_K, answer);
        let refuse = give(libc::SECCOMP_RET_ERRNO | errno.raw_os_error().cast_unsigned());
        let mut program = Vec::new();
        for Refused { call, argument } in calls {
            // In `struct seccomp_data` the number is first; six arguments of 64 bits follow at byte 16.
            let call = u32::try_from(*call).unwrap();
            match *argument {
                None => program.extend([load(0), jump(call, 1), refuse]),
                Some((index, value)) => {
                    let low = u32::from(cfg!(target_endian = "big")) * 4;
                    let argument = [load(16 + 8 * index + low), jump(value.cast_unsigned(), 1)];
                    program.extend([load(0), jump(call, 3)]);
                    program.extend(argument);
                    program.push(refuse);
                }
            }
        }
        program.push(give(libc::SECCOMP_RET_ALLOW));
        Self(program)
    }

    /// Lets `command` run under it.
    pub(super) fn put_on(self, command: &mut Command) {
        // SAFETY: The closure only makes system calls.
        unsafe { command.pre_exec(move || self.install()) };
    }

    fn install(&self) -> io::Result<()> {
        let filter = self.0.as_ptr().cast_mut();
        let len = u16::try_from(self.0.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len, filter };
        rustix::thread::set_no_new_privs(true)?;
        // SAFETY: The kernel copies the program, which outlives the call.
        match unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k }
}
