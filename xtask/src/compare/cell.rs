//! What a tool does: one cell of the table.

use std::fmt;

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Yes,
    /// If it is asked to, by this option.
    With(&'static str),
    /// Not all of it, or not by itself.
    Partly(&'static str),
    No,
}

impl Cell {
    /// What a tool that was asked by this option, if it has one, has done or not.
    pub(crate) fn of(does: bool, option: Option<&'static str>) -> Self {
        match option {
            _ if !does => Self::No,
            Some(option) => Self::With(option),
            None => Self::Yes,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => write!(f, "yes"),
            Self::With(option) => write!(f, "`{option}`"),
            Self::Partly(what) => write!(f, "{what}"),
            Self::No => write!(f, "no"),
        }
    }
}
