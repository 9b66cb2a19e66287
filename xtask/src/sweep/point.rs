//! A point of the sweep: one call of one process, and what happens to it there.

use std::fmt;

use crate::attach::Birth;
use crate::build::Program;
use crate::sweep::case::Case;

/// Whose calls are counted and hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The process that was started.
    Server,
    /// The first of its peers.
    Peer,
    /// The process of `sharedmem` that stands by while the semaphore has a name.
    Guard,
    /// The process that makes missing directories, and removes what a run leaves behind.
    CleanUp,
    /// The child that shows the progress, forked after all peers of a run that lasts.
    Painter,
    /// All of them, each at its own n-th call.
    Together,
}

impl Target {
    /// All but [`Target::Painter`], which few runs have.
    pub(crate) const ALL: [Self; 5] =
        [Self::Server, Self::Peer, Self::Guard, Self::CleanUp, Self::Together];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Peer => "peer",
            Self::Guard => "guard",
            Self::CleanUp => "cleanup",
            Self::Painter => "painter",
            Self::Together => "together",
        }
    }

    /// Whether runs of this program have it.
    pub(crate) fn is_in(self, program: Program, case: &Case) -> bool {
        matches!(self, Self::Server | Self::Together) || self.birth(program, case).is_some()
    }

    /// How it comes to be; `None` if it is not forked by the server, or not by this program.
    pub(crate) fn birth(self, program: Program, case: &Case) -> Option<Birth> {
        // Each comes from a process in between, which is born before it.
        let of_semaphore = if program == Program::SharedMemory { 2 } else { 0 };
        let of_directories = if case.older.is_none() { 2 } else { 0 };
        let apart = |before: usize| Birth { before, is_apart: true };
        let child = |before| Birth { before, is_apart: false };
        match self {
            Self::Guard => (of_semaphore > 0).then_some(apart(1)),
            Self::CleanUp => (of_directories > 0).then_some(apart(of_semaphore + 1)),
            Self::Peer => Some(child(of_semaphore + of_directories)),
            Self::Painter => Some(child(of_semaphore + of_directories + case.peers)),
            Self::Server | Self::Together => None,
        }
    }
}

/// What happens to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// It fails, and the run may too.
    Fatal(&'static str),
    /// It fails, and the run gets over it.
    Harmless(&'static str),
    /// It is refused, and the run does without it, in the way that the second text says.
    Optional(&'static str, &'static str),
    /// The process is killed before the kernel does what it was asked for.
    Kill,
}

impl Action {
    /// The error's name, or `kill`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fatal(errno) | Self::Harmless(errno) | Self::Optional(errno, _) => errno,
            Self::Kill => "kill",
        }
    }

    /// What it is to the run.
    fn class(self) -> &'static str {
        match self {
            Self::Fatal(_) => "fatal",
            Self::Harmless(_) => "harmless",
            Self::Optional(..) => "optional",
            Self::Kill => "kill",
        }
    }

    /// Whether all copies are made all the same.
    pub(crate) fn is_survived(self) -> bool {
        matches!(self, Self::Harmless(_) | Self::Optional(..))
    }
}

/// The same calls with growing numbers.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) program: Program,
    pub(crate) case: &'static Case,
    pub(crate) target: Target,
    pub(crate) call: String,
    /// A part of how strace prints those that are meant.
    pub(crate) part: &'static str,
    pub(crate) action: Action,
    /// Calls that come before the program's own first one, and are left alone.
    pub(crate) skipped: usize,
}

impl Series {
    /// Whether this word is one that selects it.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words().contains(&word) || self.action.class() == word
    }

    /// The words that select it and no other, all but the call's number.
    fn words(&self) -> [&str; 5] {
        let target = self.target.name();
        [self.program.name(), self.case.name, target, &self.call, self.action.name()]
    }

    /// How strace is asked for its `number`-th call.
    pub(crate) fn injection(&self, number: usize) -> String {
        let action = match self.action {
            Action::Kill => "signal=KILL".to_owned(),
            Action::Fatal(errno) | Action::Harmless(errno) | Action::Optional(errno, _) => {
                format!("error={errno}")
            }
        };
        format!("{}:{action}:when={number}", self.call)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}
