//! A sandbox to run one of the two programs in, and one macro that runs every case on both.
//!
//! A case starts the program (`running.rs`) and says how it must end (`run.rs`). What holds after every run
//! (no file, no name in `/dev/shm` and no process that was not asked for) is checked by the way
//! (`leftovers.rs`), so no case can forget it.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses its own part of this"
)]

pub(crate) mod filtered;
pub(crate) mod fuse;
pub(crate) mod half_write;
pub(crate) mod leftovers;
pub(crate) mod mounts;
pub(crate) mod paths;
pub(crate) mod paused;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod terminal;
pub(crate) mod traced;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};

use filtered::Filter;
use run::Run;
use running::Running;
use terminal::Terminal;

/// Makes two tests of one case, one for each program.
macro_rules! both {
    ($case:ident, |$sandbox:ident| $body:block) => {
        fn $case($sandbox: &$crate::common::Sandbox) $body

        mod $case {
            use $crate::common::Sandbox;

            #[test]
            fn socket() {
                super::$case(&Sandbox::new(assert_cmd::cargo::cargo_bin!("socket")));
            }

            #[test]
            fn sharedmem() {
                super::$case(&Sandbox::new(assert_cmd::cargo::cargo_bin!("sharedmem")));
            }
        }
    };
}
pub(crate) use both;

/// Bytes in a block of `sharedmem`.
pub(crate) const BLOCK: usize = 80 * 1024;
/// Bytes in its ring.
pub(crate) const RING: usize = 32 * BLOCK;
/// The ring that a file of up to 20 MiB has.
pub(crate) const SHORT_RING: usize = 8 * BLOCK;
/// Bytes of a stream that `socket` reads at once.
pub(crate) const CHUNK: usize = 512 * 1024;
/// Bytes that it holds at most.
pub(crate) const WINDOW: usize = 4 * CHUNK;
/// More than either holds on the way, sockets' and pipes' buffers included: once the server has
/// read as many, every peer has stored some of them.
pub(crate) const BEYOND_ALL_BUFFERS: usize = 8 << 20;

/// A program, and a directory that is the whole world to it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    program: &'static Path,
    root: PathBuf,
    /// Those mounted in it.
    file_systems: Mutex<Vec<Arc<fuse::Shared>>>,
    /// Removes it.
    _directory: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new(program: &'static Path) -> Self {
        // Whatever a program leaves behind becomes a child of this process, and so can be seen.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("work")).unwrap();
        fs::create_dir(root.join("tmp")).unwrap();
        Self { program, root, file_systems: Mutex::default(), _directory: directory }
    }

    /// The program's name, as it stands before its messages.
    pub(crate) fn program(&self) -> &str {
        self.program.file_name().unwrap().to_str().unwrap()
    }

    pub(crate) fn program_path(&self) -> &Path {
        self.program
    }

    pub(crate) fn is_sharedmem(&self) -> bool {
        self.program() == "sharedmem"
    }

    /// The directory that holds all else: the programs' working directory and `TMPDIR`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `path`, seen from the programs' working directory.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join("work").join(path)
    }

    /// Makes a file.
    pub(crate) fn file(&self, path: impl AsRef<Path>, contents: &[u8]) -> PathBuf {
        let path = self.path(path);
        fs::write(&path, contents).unwrap();
        path
    }

    /// Makes a directory, and those above it.
    pub(crate) fn directory(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn note_file_system(&self, file_system: &Arc<fuse::Shared>) {
        self.file_systems.lock().unwrap().push(Arc::clone(file_system));
    }

    /// Lets all file systems in it answer, so that no process hangs.
    fn calm_file_systems(&self) {
        self.file_systems.lock().unwrap().iter().for_each(|file_system| file_system.calm());
    }

    /// Runs the program with these arguments to its end.
    pub(crate) fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'_> {
        self.with(args).run()
    }

    /// The program with these arguments, for a run that needs more than that.
    pub(crate) fn with(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation<'_> {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Invocation {
            sandbox: self,
            before: Vec::new(),
            filter: None,
            args,
            stdin: Stdio::null(),
            stdout: None,
            stderr: None,
            terminal: None,
        }
    }
}

/// The program, its arguments, and what surrounds them.
#[derive(Debug)]
pub(crate) struct Invocation<'s> {
    sandbox: &'s Sandbox,
    /// The command that the program's own command line is appended to.
    before: Vec<OsString>,
    /// What the kernel refuses to it.
    filter: Option<Filter>,
    args: Vec<OsString>,
    stdin: Stdio,
    /// `None` keeps it for the checks.
    stdout: Option<Stdio>,
    /// As [`Invocation::stdout`].
    stderr: Option<Stdio>,
    /// What `TERM` says, if a terminal controls the program.
    terminal: Option<&'static str>,
}

impl<'s> Invocation<'s> {
    /// Lets `command` run the program: its command line is appended to it.
    pub(crate) fn through(mut self, command: &[&str]) -> Self {
        let command = command.iter().map(OsString::from);
        self.before = command.chain(self.before).collect();
        self
    }

    /// Lets a shell run the program, which is `"$@"` in the script.
    pub(crate) fn in_shell(self, script: &str) -> Self {
        self.through(&["sh", "-c", script, "sh"])
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Takes standard output away from the checks.
    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Takes standard error away from the checks, which [`Running::hear`] gives them back.
    ///
    /// [`Running::hear`]: running::Running::hear
    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Takes all standard streams to a terminal, which controls the program and says that it is of
    /// this kind.
    pub(crate) fn on_terminal(mut self, terminal: &Terminal, kind: &'static str) -> Self {
        (self.stdin, self.stdout) = (terminal.stdio(), Some(terminal.stdio()));
        (self.stderr, self.terminal) = (Some(terminal.stdio()), Some(kind));
        self
    }

    pub(crate) fn run(self) -> Run<'s> {
        self.start().finish()
    }

    pub(crate) fn start(self) -> Running<'s> {
        // In a session of its own, all of its processes can be found.
        let mut command = Command::new("setsid");
        if let Some(kind) = self.terminal {
            command.arg("--ctty").env("TERM", kind);
        }
        command
            .args(self.before)
            .arg(self.sandbox.program)
            .args(self.args)
            .current_dir(self.sandbox.path(""))
            .env("TMPDIR", self.sandbox.root().join("tmp"))
            .env("LC_ALL", "C")
            .stdin(self.stdin);
        if let Some(filter) = self.filter {
            filter.put_on(&mut command);
        }
        Running::start(self.sandbox, command, self.stdout, self.stderr)
    }
}

/// `length` bytes, 32 MiB at most, of which no two blocks are alike.
pub(crate) fn contents(length: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = vec![0; 32 << 20];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in bytes.chunks_exact_mut(8) {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        bytes
    });
    &BYTES[..length]
}

/// Says that a case cannot be tried here, where the test harness does not catch it.
pub(crate) fn skip(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {what}: {why}");
}

/// The arguments that make a process of root's heed permissions like everybody else; none for
/// everybody else; `None` where that cannot be had.
pub(crate) fn heeding_permissions() -> Option<&'static [&'static str]> {
    const SETPRIV: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let command = if rustix::process::geteuid().is_root() { &SETPRIV[..] } else { &[] };
    let locked = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(locked.path(), std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .unwrap();
    let probe = [command, &["test", "!", "-r"]].concat();
    succeeds(&probe, locked.path()).then_some(command)
}

/// The command that runs another one with mounts of its own; `None` where that is not allowed.
pub(crate) fn private_mounts() -> Option<&'static [&'static str]> {
    let root = rustix::process::geteuid().is_root();
    let command: &[_] = if root { &["unshare", "-m"] } else { &["unshare", "-rm"] };
    let directory = tempfile::tempdir().unwrap();
    let probe = [command, &["mount", "-t", "tmpfs", "tmpfs"]].concat();
    succeeds(&probe, directory.path()).then_some(command)
}

/// Whether `command` with `last` appended exits with status 0.
pub(crate) fn succeeds(command: &[&str], last: impl AsRef<OsStr>) -> bool {
    let (program, args) = command.split_first().unwrap();
    let output = Command::new(program).args(args).arg(last).output();
    output.is_ok_and(|output| output.status.success())
}
