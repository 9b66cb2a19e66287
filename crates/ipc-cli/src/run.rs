//! One run of a program, once its arguments are understood.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use ipc_core::{FileName, Job, Report, Transport};

use crate::advice::with_advice;
use crate::args::CommonArgs;
use crate::environment;
use crate::json::{SourceFields, TransportFields};
use crate::manifest::Manifest;
use crate::output::Output;
use crate::progress::Display;
use crate::streams;
use crate::usage::usage;

/// What a run has come to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) transport: TransportFields,
    pub(crate) source: SourceFields,
    /// The name of the source, once it is open.
    pub(crate) name: Option<FileName>,
    /// Whether that is but the number of an open file.
    pub(crate) name_is_number: bool,
    /// What became of its peers, if it had any.
    pub(crate) report: Option<Report>,
    /// Why it failed, but for what the report says.
    pub(crate) error: Option<anyhow::Error>,
}

/// What both programs do, once the arguments are understood.
pub(crate) fn main<T: Transport>(
    program: &'static str,
    args: CommonArgs,
    transport: TransportFields,
    build: impl FnOnce(&Job) -> Result<T>,
) -> ExitCode {
    let began = Instant::now();
    if let Some(contradiction) = args.contradiction() {
        return usage(program, &contradiction);
    }
    let display = Display::new(program, began, args.progress, args.quiet);
    let output = Output { program, format: args.format(), is_quiet: args.quiet };
    let source = SourceFields::unopened(&args.file);
    let name_is_number = args.has_number_for_a_name();
    let mut ended =
        Ended { transport, source, name: None, name_is_number, report: None, error: None };
    ended.error = run(args, build, display, &mut ended).err().map(with_advice);
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
    environment::prepare();
    let manifest = args.manifest.clone();
    let on_slow = args.on_slow();
    let job = args.into_job()?;
    ended.source.learn(&job.source);
    ended.transport.resolve(on_slow, &job.source);
    ended.name = Some(job.source.header().name().clone());
    let job = job.check::<T>()?;
    streams::check_names(&job)?;
    let manifest = manifest.map(|path| Manifest::new(path, &job)).transpose()?;
    let transport = build(&job)?;
    let report = ipc_core::copy_and_tell(&job, &transport, &mut |event| display.tell(event));
    let written = match (&report, manifest) {
        (Ok(report), Some(manifest)) => manifest.write(report),
        _ => Ok(()),
    };
    // Only now, as a terminal may keep it waiting.
    display.end();
    ended.report = Some(report?);
    written
}

/// Bytes that were stored in a second, all peers together.
#[allow(clippy::cast_precision_loss, reason = "no rate is known so exactly")]
pub(crate) fn rate(report: &Report, elapsed: Duration) -> f64 {
    let stored = report.stored().count() as f64 * report.bytes.unwrap_or(0) as f64;
    stored / elapsed.as_secs_f64()
}
