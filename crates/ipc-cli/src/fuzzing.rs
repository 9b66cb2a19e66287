//! Entry point for `fuzz/`, built by cargo-fuzz only.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::Parser;

use crate::args::{CommonArgs, SharedMemoryArgs, SocketArgs};
use crate::usage::what_is_wrong;

/// `data` is a command line as `/proc/PID/cmdline` has it: arguments, the program's name first, with a
/// NUL between them.
///
/// What is understood is right or a contradiction; what is not is told in one line.
pub fn arguments(data: &[u8]) {
    let arguments = || data.split(|&byte| byte == 0).map(OsStr::from_bytes);
    if arguments().next() == Some(OsStr::new("sharedmem")) {
        check("sharedmem", SharedMemoryArgs::try_parse_from(arguments()), |args| &args.common);
    } else {
        check("socket", SocketArgs::try_parse_from(arguments()), |args| &args.common);
    }
}

fn check<A: Parser>(
    program: &str,
    parsed: Result<A, clap::Error>,
    common: impl Fn(&A) -> &CommonArgs,
) {
    match parsed {
        Ok(args) => {
            let _ = common(&args).on_slow();
            let contradiction = common(&args).contradiction();
            contradiction.iter().for_each(|text| assert_one_line(text));
        }
        Err(error) if error.use_stderr() => assert_one_line(&what_is_wrong(program, &error)),
        // The help or the version.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Nothing that a terminal or a log would take for the end of the line, or for a command.
fn assert_one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}
