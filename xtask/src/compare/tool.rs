//! Who is compared, and how each is used as its manual says.

use crate::build::Program;
use crate::installed::is_installed;

/// A way to put one file into several places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Program(Program),
    /// A process for each copy, all at once.
    Cp,
    Tee,
    Pee,
    Mbuffer,
    Dcfldd,
    /// A process for each copy, all at once.
    Rsync,
}

/// What a tool may do if it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To read a file once, whatever becomes of a copy.
    ReadOnce,
    Replace,
    Verify,
    Holes,
    ModeAndTime,
    Directory,
    Progress,
    Json,
}

/// Where the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path.
    File(&'static str),
    /// Standard input, which is a pipe.
    Stream,
}

/// How many copies are made: as many as there can be a first, a last and one between.
pub(crate) const COPIES: usize = 3;

impl Tool {
    pub(crate) const ALL: [Self; 8] = [
        Self::Program(Program::Socket),
        Self::Program(Program::SharedMemory),
        Self::Cp,
        Self::Rsync,
        Self::Tee,
        Self::Pee,
        Self::Mbuffer,
        Self::Dcfldd,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Program(program) => program.name(),
            Self::Cp => "cp",
            Self::Tee => "tee",
            Self::Pee => "pee",
            Self::Mbuffer => "mbuffer",
            Self::Dcfldd => "dcfldd",
            Self::Rsync => "rsync",
        }
    }

    /// Whether it makes one copy, so that it is started once for each.
    pub(crate) fn is_for_one(self) -> bool {
        matches!(self, Self::Cp | Self::Rsync)
    }

    /// Whether it can be run here.
    pub(crate) fn is_here(self) -> bool {
        matches!(self, Self::Program(_)) || is_installed(self.name())
    }

    /// Whether it reads a file only if that is its standard input.
    pub(crate) fn reads_standard_input(self) -> bool {
        matches!(self, Self::Tee | Self::Pee)
    }

    /// Its option for a wish.
    pub(crate) fn option(self, wish: Wish) -> Option<&'static str> {
        let option = match (self, wish) {
            (Self::Program(Program::SharedMemory), Wish::ReadOnce) => "--on-slow=wait",
            (Self::Program(_), Wish::Verify) => "--verify",
            (Self::Program(_), Wish::ModeAndTime) => "--preserve",
            (Self::Program(_), Wish::Progress) => "--progress=always",
            (Self::Program(_), Wish::Json) => "--json",
            (Self::Cp, Wish::ModeAndTime) => "-p",
            (Self::Cp | Self::Rsync, Wish::Directory) => "-r",
            (Self::Rsync, Wish::Holes) => "-S",
            (Self::Rsync, Wish::ModeAndTime) => "-pt",
            (Self::Rsync, Wish::Progress) => "--progress",
            (Self::Mbuffer, Wish::Replace) => "-f",
            _ => return None,
        };
        Some(option)
    }

    /// The words that start it, program first, once or for each copy. Copies are to be at [`target`] below
    /// `place`, which is empty, or ends with a separator.
    pub(crate) fn invocations(
        self,
        options: &[&str],
        source: Source,
        place: &str,
    ) -> Vec<Vec<String>> {
        let targets = (0..COPIES).map(|number| format!("{place}{}", target(number)));
        let for_each = |prefix: &str| {
            targets.clone().map(|target| format!("{prefix}{target}")).collect::<Vec<_>>()
        };
        let path = |stream: &str| match source {
            Source::File(path) => path.to_owned(),
            Source::Stream => stream.to_owned(),
        };
        let file = |option: &str| match source {
            Source::File(path) => vec![format!("{option}{path}")],
            Source::Stream => Vec::new(),
        };
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let program = vec![self.path()];
        let begin = [&program[..], &options].concat();
        let words = match self {
            Self::Cp | Self::Rsync => {
                let copy = |target| [&begin[..], &[path("/dev/stdin"), target]].concat();
                return targets.clone().map(copy).collect();
            }
            Self::Program(_) => {
                let names = [format!("--dir={place}{{peer}}"), "--name=copy".to_owned()];
                [&begin[..], &names, &[COPIES.to_string(), path("-")]].concat()
            }
            Self::Tee => {
                // Its standard output is one copy more than are wanted.
                let quiet = ["sh", "-c", "exec \"$@\" > /dev/null", "sh"].map(str::to_owned);
                [&quiet[..], &begin, &for_each("")].concat()
            }
            Self::Pee => [begin, for_each("cat > ")].concat(),
            Self::Mbuffer => {
                // Its options are about the next output.
                let outputs = for_each("-o").into_iter();
                let outputs = outputs.flat_map(|output| [&options[..], &[output]].concat());
                [program, file("-i"), outputs.collect()].concat()
            }
            Self::Dcfldd => [begin, file("if="), for_each("of=")].concat(),
        };
        vec![words]
    }

    /// What a shell is told to start it.
    fn path(self) -> String {
        match self {
            Self::Program(program) => program.path().to_string_lossy().into_owned(),
            other => other.name().to_owned(),
        }
    }
}

/// Where a copy is to be, seen from the directory of a run.
pub(crate) fn target(number: usize) -> String {
    format!("{number}/copy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(tool: Tool, options: &[&str], source: Source) -> Vec<String> {
        tool.invocations(options, source, "").iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn a_tool_for_one_copy_is_started_for_each() {
        let expected = ["cp -p a 0/copy", "cp -p a 1/copy", "cp -p a 2/copy"];
        assert_eq!(lines(Tool::Cp, &["-p"], Source::File("a")), expected);
    }

    #[test]
    fn options_stand_where_the_tool_wants_them() {
        let expected = "mbuffer -ia -f -o0/copy -f -o1/copy -f -o2/copy";
        assert_eq!(lines(Tool::Mbuffer, &["-f"], Source::File("a")), [expected]);
        let expected = "dcfldd of=0/copy of=1/copy of=2/copy";
        assert_eq!(lines(Tool::Dcfldd, &[], Source::Stream), [expected]);
    }
}
