//! Commands of the system, and what they say.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What a command prints, without the newline at its end. If it fails, all that it said is the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (said, printed) = (text(&output.stderr), text(&output.stdout));
    ensure!(output.status.success(), "{program:?}: {}\n{printed}\n{said}", output.status);
    Ok(printed)
}
