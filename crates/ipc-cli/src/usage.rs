//! Wrong arguments: what is wrong with them, on one line, and the exit status that says so.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use console::colors_enabled;
use ipc_core::PeerCount;
use ipc_core::io::write_all;

use crate::environment::check_stdout;
use crate::message::{message, tell_panics};

/// Exit status for wrong arguments.
const USAGE: u8 = 2;

/// The arguments; or the exit status, if they are wrong or were a question that is answered.
pub(crate) fn parse<A: Parser>(program: &'static str) -> Result<A, ExitCode> {
    tell_panics(program);
    A::try_parse().map_err(|error| {
        if error.use_stderr() {
            usage(program, &what_is_wrong(program, &error))
        } else {
            // Help or the version was asked for.
            check_stdout().and_then(|()| print(&error)).map_or_else(
                |error| {
                    message(program, &format!("cannot write to standard output: {error}"));
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            )
        }
    })
}

/// Prints what was asked for, however slowly it is taken.
fn print(answer: &clap::Error) -> io::Result<()> {
    let text = answer.render();
    let text = match colors_enabled() {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    write_all(io::stdout(), text.as_bytes())
}

/// Says what is wrong with the arguments.
pub(crate) fn usage(program: &str, text: &str) -> ExitCode {
    message(program, &format!("{text}; see {program} --help"));
    ExitCode::from(USAGE)
}

/// What is wrong with the arguments, on one line.
pub(crate) fn what_is_wrong(program: &str, error: &clap::Error) -> String {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    if matches!((program, argument), ("socket", "--blocks" | "--block-size")) {
        return format!("only sharedmem has {argument}: socket sends the file without a ring");
    }
    if argument.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok()) {
        // It looks like an option, but no option is a number but 0.
        let range = format!("it is not a number from 1 to {}", PeerCount::MAX);
        return format!("invalid value '{argument}' for '<NUMBER_OF_PEERS>': {range}");
    }
    one_line(&error.to_string()) + hint(error, argument)
}

/// What is to be done about mistakes that others' habits lead to.
fn hint(error: &clap::Error, argument: &str) -> &'static str {
    match error.kind() {
        // As `cp` has it: sources, then a directory.
        ErrorKind::UnknownArgument if !argument.starts_with('-') => {
            "; there is one FILE, and --dir says where copies go"
        }
        ErrorKind::ValueValidation if argument == "<NUMBER_OF_PEERS>" => "; it comes before FILE",
        ErrorKind::MissingRequiredArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(missing)) if *missing == ["<FILE>"] => {
                "; - is standard input"
            }
            _ => "",
        },
        _ => "",
    }
}

/// What clap says in several lines, without the usage, which `--help` has.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    // The last one, as what was typed is repeated before it.
    let text = text.rsplit_once("\n\nUsage: ").map_or(text, |(said, _)| said);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // No file is called so as often as an option is mistyped.
    let lines = lines.filter(|line| !line.starts_with("tip: to pass '"));
    let lines = lines.filter(|line| !line.starts_with("For more information"));
    let said = lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
    // It repeats what was typed, of which nothing shall move a terminal's cursor.
    said.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_says_becomes_one_line() {
        let said = "error: unexpected argument '--bloks' found\n\n  tip: a similar argument exists: \
                    '--blocks'\n\nUsage: sharedmem <FILE>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(said),
            "unexpected argument '--bloks' found; a similar argument exists: '--blocks'"
        );
        assert_eq!(one_line("error: a\rb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        let said = "error: unexpected argument 'a\nUsage: b' found\n\nUsage: socket <FILE>\n";
        assert_eq!(one_line(said), "unexpected argument 'a Usage: b' found");
        let said = "error: unexpected argument '-x' found\n\n  tip: to pass '-x' as a value, use \
                    '-- -x'\n\nUsage: socket <FILE>\n";
        assert_eq!(one_line(said), "unexpected argument '-x' found");
    }
}
