//! What shells complete behind the programs' names.

use anyhow::{Context, Result};
use clap::ValueHint;
use clap_complete::Shell;

use crate::build::Program;

/// A shell, and where it looks for completions, below `share`.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) shell: Shell,
    pub(crate) directory: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) suffix: &'static str,
}

pub(crate) const PLACES: [Place; 3] = [
    Place { shell: Shell::Bash, directory: "bash-completion/completions", prefix: "", suffix: "" },
    Place { shell: Shell::Zsh, directory: "zsh/site-functions", prefix: "_", suffix: "" },
    Place {
        shell: Shell::Fish,
        directory: "fish/vendor_completions.d",
        prefix: "",
        suffix: ".fish",
    },
];

impl Place {
    /// The path of a program's completions, below `share`.
    pub(crate) fn path(&self, program: Program) -> String {
        let Self { directory, prefix, suffix, .. } = self;
        format!("{directory}/{prefix}{}{suffix}", program.name())
    }
}

/// A program's completions, as the shell reads them.
pub(crate) fn script(shell: Shell, program: Program) -> Result<String> {
    let mut command = super::command(program).mut_args(|arg| match arg.get_id().as_str() {
        "dir" => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, program.name(), &mut script);
    let script = String::from_utf8(script).context("completions are no UTF-8")?;
    if shell == Shell::Bash { files_behind_options(&script) } else { Ok(script) }
}

/// clap_complete's script for bash offers options where no `-` was typed, and so bash offers no files.
fn files_behind_options(script: &str) -> Result<String> {
    const OPTIONS: &str = "            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )\n";
    let (before, after) =
        script.rsplit_once(OPTIONS).context("the completions for bash have changed")?;
    Ok([before, after].concat())
}
