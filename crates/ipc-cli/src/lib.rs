//! The programs `socket` and `sharedmem`: policy, wording and exit statuses.
//!
//! All mechanism is in `ipc-core`, `ipc-socket` and `ipc-shm`, which other programs can use. Here
//! arguments become a [`Job`] (`args.rs`), the process is set right (`environment.rs`), a transport
//! is built, and the report becomes text and an exit status (`output.rs`).

mod args;
mod environment;
#[cfg(fuzzing)]
pub mod fuzzing;
mod manifest;
mod output;

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Parser;
use clap::error::{ContextKind, ContextValue};
use ipc_core::{Job, PeerCount, Transport, describe};
use ipc_shm::SharedMemory;
use ipc_socket::SocketTransport;

use crate::args::{CommonArgs, SharedMemoryArgs, SocketArgs};
use crate::manifest::Manifest;

/// Exit status for wrong arguments.
const USAGE: u8 = 2;

/// The program `socket`.
#[must_use]
pub fn socket() -> ExitCode {
    let program = "socket";
    let SocketArgs { common } = match parse(program) {
        Ok(args) => args,
        Err(status) => return status,
    };
    let options = ipc_socket::Options { on_slow: common.on_slow(), ..Default::default() };
    main(program, common, |_| Ok(SocketTransport::new(options)?))
}

/// The program `sharedmem`.
#[must_use]
pub fn sharedmem() -> ExitCode {
    let program = "sharedmem";
    let SharedMemoryArgs { common, block_size, blocks } = match parse(program) {
        Ok(args) => args,
        Err(status) => return status,
    };
    let options = ipc_shm::Options { block_size, blocks, on_slow: common.on_slow() };
    main(program, common, |job| {
        SharedMemory::create(&job.source, job.peers, options).map_err(with_advice)
    })
}

fn with_advice(error: ipc_shm::Error) -> anyhow::Error {
    use ipc_shm::Error::{Segment, Semaphore};
    let advice = match &error {
        Segment { source, .. } if source.kind() == ErrorKind::StorageFull => {
            "use a smaller --blocks or --block-size, or the program socket"
        }
        Segment { .. } | Semaphore { .. } => "use the program socket, which needs no /dev/shm",
        _ => return error.into(),
    };
    anyhow!("{}: {advice}", describe(&error))
}

/// What both programs do, once the arguments are understood.
fn main<T: Transport>(
    program: &str,
    args: CommonArgs,
    build: impl FnOnce(&Job) -> anyhow::Result<T>,
) -> ExitCode {
    if let Some(contradiction) = args.contradiction() {
        return usage(program, contradiction);
    }
    match run(program, args, build) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::message(program, &describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Runs the job and reports; says whether every peer has stored its copy.
fn run<T: Transport>(
    program: &str,
    args: CommonArgs,
    build: impl FnOnce(&Job) -> anyhow::Result<T>,
) -> anyhow::Result<bool> {
    let begin = Instant::now();
    environment::prepare().context("cannot set up the process")?;
    let (quiet, path_end) = (args.quiet, if args.null { b'\0' } else { b'\n' });
    let manifest = args.manifest.clone();
    let job = args.into_job()?;
    job.check::<T>()?;
    let manifest = manifest.map(|path| Manifest::new(path, &job)).transpose()?;
    let transport = build(&job)?;
    let report =
        ipc_core::copy_and_tell(&job, &transport, &mut |event| output::event(program, event))?;
    let elapsed = begin.elapsed();

    let printed = output::paths(&report, path_end).context("cannot write to standard output");
    output::failures(program, &report);
    if !quiet {
        output::summary(program, &job.source.header().name, &report, elapsed);
    }
    printed?;
    manifest.map_or(Ok(()), |manifest| manifest.write(&report))?;
    Ok(report.is_success())
}

fn parse<A: Parser>(program: &str) -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        if error.use_stderr() {
            usage(program, &what_is_wrong(program, &error))
        } else {
            // Help or the version was asked for.
            error.print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
    })
}

fn usage(program: &str, text: &str) -> ExitCode {
    output::message(program, &format!("{text}; see {program} --help"));
    ExitCode::from(USAGE)
}

/// What is wrong with the arguments, on one line.
fn what_is_wrong(program: &str, error: &clap::Error) -> String {
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
    one_line(&error.to_string())
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
