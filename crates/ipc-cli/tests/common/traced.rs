//! Faults by strace: calls that fail, and processes that get a signal at a call, and nowhere else.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rustix::process::Pid;

use super::{Invocation, Sandbox, skip, succeeds};

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

/// A run on a file `data` with these contents, of which only calls on that file fail.
pub(crate) fn tampered_file<'s>(
    sandbox: &'s Sandbox,
    args: &[&str],
    contents: &[u8],
    inject: &str,
) -> Option<Invocation<'s>> {
    let source = sandbox.file("data", contents);
    // By its path if it is open, and by its name where it is opened.
    let how = ["-P", source.to_str().unwrap(), "-P", "data", "-e", inject];
    sandbox.with(args).tampered(&how)
}

/// strace at work on a process that was running before.
#[derive(Debug)]
#[must_use = "without it nothing is done to the process any more"]
pub(crate) struct Tracer(Child);

/// Does this to a process from its next call on, the first that counts. `None` without strace.
pub(crate) fn tamper_with(process: Pid, how: &[&str]) -> Option<Tracer> {
    strace("calls that fail in one peer")?;
    let pid = process.as_raw_pid().to_string();
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "-p", &pid]).args(how).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let tracer = Tracer(child);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, format!("strace: Process {pid} attached\n"));
    Some(tracer)
}

/// The process goes on untouched, if it has not ended.
impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
