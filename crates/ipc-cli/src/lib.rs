//! The programs `socket` and `sharedmem`: policy, wording and exit statuses.
//!
//! All mechanism is in `ipc-core`, `ipc-socket` and `ipc-shm`, which other programs can use. Here
//! arguments become a [`Job`] (`args.rs`), the process is set right (`environment.rs`), a transport
//! is built, and the report becomes text and an exit status (`output.rs`).

mod advice;
mod args;
mod environment;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod manifest;
mod output;
mod progress;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use ipc_core::{FileName, Job, PeerCount, Report, Transport};
use ipc_shm::SharedMemory;
use ipc_socket::SocketTransport;

use crate::args::{CommonArgs, SharedMemoryArgs, SocketArgs};
use crate::json::{Settings, SourceFields};
use crate::manifest::Manifest;
use crate::output::Output;
use crate::progress::Display;

/// Exit status for wrong arguments.
const USAGE: u8 = 2;

/// What `socket` takes, for what is made of it: a manual page, completions.
#[must_use]
pub fn socket_command() -> clap::Command {
    SocketArgs::command()
}

/// What `sharedmem` takes, as [`socket_command`] has it for `socket`.
#[must_use]
pub fn sharedmem_command() -> clap::Command {
    SharedMemoryArgs::command()
}

/// The program `socket`.
#[must_use]
pub fn socket() -> ExitCode {
    let SocketArgs { common } = match parse("socket") {
        Ok(args) => args,
        Err(status) => return status,
    };
    let on_slow = common.on_slow();
    let settings = Settings::new("socket", on_slow);
    main(common, settings, |_| {
        Ok(SocketTransport::new(ipc_socket::Options { on_slow, ..Default::default() })?)
    })
}

/// The program `sharedmem`.
#[must_use]
pub fn sharedmem() -> ExitCode {
    let SharedMemoryArgs { common, block_size, blocks } = match parse("sharedmem") {
        Ok(args) => args,
        Err(status) => return status,
    };
    let on_slow = common.on_slow();
    let settings = Settings::new("sharedmem", on_slow).with_ring(block_size, blocks);
    main(common, settings, |job| {
        let options = ipc_shm::Options { block_size, blocks, on_slow };
        SharedMemory::create(&job.source, job.peers, options).map_err(advice::with_advice)
    })
}

/// What a run has come to.
#[derive(Debug)]
struct Ended {
    settings: Settings,
    source: SourceFields,
    /// What its received files are called by, once the source is open.
    name: Option<FileName>,
    /// What became of its peers, if it had any.
    report: Option<Report>,
    /// Why it failed, but for what the report says.
    error: Option<anyhow::Error>,
}

/// What both programs do, once the arguments are understood.
fn main<T: Transport>(
    args: CommonArgs,
    settings: Settings,
    build: impl FnOnce(&Job) -> Result<T>,
) -> ExitCode {
    let (program, began) = (settings.name, Instant::now());
    if let Some(contradiction) = args.contradiction() {
        return usage(program, contradiction);
    }
    let display = Display::new(program, began, args.progress, args.quiet);
    let output = Output { program, form: args.form(), is_quiet: args.quiet };
    let source = SourceFields::unopened(&args.file);
    let mut ended = Ended { settings, source, name: None, report: None, error: None };
    ended.error = run(args, build, display, &mut ended).err();
    match output.tell(&ended, began.elapsed()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs the job, and notes what is known of it as soon as it is.
fn run<T: Transport>(
    args: CommonArgs,
    build: impl FnOnce(&Job) -> Result<T>,
    mut display: Display,
    ended: &mut Ended,
) -> Result<()> {
    environment::prepare().context("cannot set up the process")?;
    let manifest = args.manifest.clone();
    let on_slow = args.on_slow();
    let job = args.into_job()?;
    ended.source.open(&job.source);
    ended.settings.open(&job.source, on_slow);
    ended.name = Some(job.source.header().name.clone());
    job.check::<T>()?;
    let manifest = manifest.map(|path| Manifest::new(path, &job)).transpose()?;
    let transport = build(&job)?;
    let report = ipc_core::copy_and_tell(&job, &transport, &mut |event| display.tell(event));
    display.end();
    let report = ended.report.insert(report?);
    manifest.map_or(Ok(()), |manifest| manifest.write(report))
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
