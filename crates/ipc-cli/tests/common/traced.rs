//! Faults by strace: calls that fail, and processes that get a signal at a call, and nowhere else.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::LazyLock;

use rustix::process::Pid;

use super::{Invocation, skip, succeeds};

/// The command that traces another one and its children; where that is not allowed, `None`, which it says
/// of `what`.
pub(crate) fn strace(what: &str) -> Option<&'static [&'static str]> {
    const STRACE: &[&str] = &["strace", "-f", "-qqq", "-o", "/dev/null"];
    static WORKS: LazyLock<bool> = LazyLock::new(|| succeeds(STRACE, "true"));
    if !*WORKS {
        skip(what, "there is no strace, or it may trace nobody");
    }
    WORKS.then_some(STRACE)
}

impl Invocation<'_> {
    /// Lets strace do this to the program and its peers: `inject=...` for each of them, whose own calls
    /// are counted, or only to calls on a path (`-P`). `None` without strace.
    ///
    /// The program is the process that was started all the same, and dies of what it is sent.
    pub(crate) fn tampered(self, how: &[&str]) -> Option<Self> {
        Some(self.through(&[strace("calls that fail")?, &["-DDD"], how].concat()))
    }
}

/// strace at work on a process that was running before.
#[derive(Debug)]
#[must_use = "without it nothing is done to the process any more"]
pub(crate) struct Tracer {
    child: Child,
    /// What strace says: what it does, and the calls, if they do not go elsewhere.
    said: BufReader<ChildStderr>,
}

/// Does this to a process from its next call on, the first that counts. `None` without strace.
pub(crate) fn tamper_with(process: Pid, how: &[&str]) -> Option<Tracer> {
    tamper_and_tell(process, &[&["-o", "/dev/null"], how].concat())
}

/// The same, and the tracer says each call. (With a file as its output strace may keep that for itself
/// as long as the process is stopped.)
pub(crate) fn tamper_and_tell(process: Pid, how: &[&str]) -> Option<Tracer> {
    strace("calls that fail in one peer")?;
    let pid = process.as_raw_pid().to_string();
    let mut command = Command::new("strace");
    command.args(["-p", &pid]).args(how).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    let mut tracer = Tracer { child, said };
    tracer.await_said(&format!("Process {pid} attached"));
    Some(tracer)
}

impl Tracer {
    /// Waits for a line with this text.
    pub(crate) fn await_said(&mut self, text: &str) {
        let mut said = String::new();
        while !said.contains(text) {
            said.clear();
            assert_ne!(self.said.read_line(&mut said).unwrap(), 0, "strace never said {text:?}");
        }
    }
}

/// The process goes on untouched, if it has not ended.
impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
