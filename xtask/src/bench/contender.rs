//! Who is measured.

use std::fmt;

use crate::build::Program;
use crate::installed::is_installed;

/// A way to put a source into as many files as there are peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Program(Program),
    /// `sharedmem` with one block, the lockstep of the original.
    Lockstep,
    /// A program that has everything on disk before it ends.
    Synced(Program),
    /// A program, until its peers have their copies.
    Undisturbed(Program),
    /// The same with one more peer, which is slow and not counted.
    BesideSlow(Program),
    /// Not a copy, but the least that any can take.
    Limit,
    /// Not a copy either, but the least that any can take which forks a process for each file.
    Forks,
    /// A process for each copy, all at once.
    Cp,
    /// A process for each copy, eight at a time.
    CpByEight,
    /// A process for each copy that ends with `fsync`, all at once.
    ///
    /// It stands for `cp` and then `sync FILE`, which takes no less time, and a second process for
    /// each copy besides.
    DdFsync,
    Tee,
    Pee,
    /// This one ends with `fsync` without being asked.
    Mbuffer,
    Dcfldd,
}

impl Contender {
    /// The program, if it is one of the two in some way.
    pub(crate) fn program(self) -> Option<Program> {
        match self {
            Self::Program(program)
            | Self::Synced(program)
            | Self::Undisturbed(program)
            | Self::BesideSlow(program) => Some(program),
            Self::Lockstep => Some(Program::SharedMemory),
            _ => None,
        }
    }

    /// Whether it is what everybody has, so that others are measured by it.
    pub(crate) fn is_usual(self) -> bool {
        matches!(self, Self::Cp | Self::CpByEight | Self::DdFsync)
    }

    /// Why it cannot be measured on this machine.
    pub(crate) fn lacks(self) -> Option<String> {
        let lacks = match self {
            Self::Synced(program) => !program.has_option("--sync"),
            Self::Tee | Self::Pee | Self::Mbuffer | Self::Dcfldd => {
                !is_installed(&self.to_string())
            }
            _ => false,
        };
        lacks.then(|| match self {
            Self::Synced(program) => format!("{} has no option --sync", program.name()),
            _ => format!("{self} is not installed"),
        })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(program) => write!(f, "{}", program.name()),
            Self::Lockstep => write!(f, "sharedmem --blocks 1"),
            Self::Synced(program) => write!(f, "{} --sync", program.name()),
            Self::Undisturbed(program) => write!(f, "{}, none slow", program.name()),
            Self::BesideSlow(program) => write!(f, "{}, one slow", program.name()),
            Self::Limit => write!(f, "limit"),
            Self::Forks => write!(f, "bare forks"),
            Self::Cp => write!(f, "cp"),
            Self::CpByEight => write!(f, "cp, 8 at a time"),
            Self::DdFsync => write!(f, "dd conv=fsync"),
            Self::Tee => write!(f, "tee"),
            Self::Pee => write!(f, "pee"),
            Self::Mbuffer => write!(f, "mbuffer"),
            Self::Dcfldd => write!(f, "dcfldd"),
        }
    }
}
