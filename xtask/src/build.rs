//! The two programs at the workspace root: put there, found there, taken away.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// One of the programs that the workspace builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Socket,
    SharedMemory,
}

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::Socket, Self::SharedMemory];

    /// What it is called, as a file and in its own messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::SharedMemory => "sharedmem",
        }
    }

    /// Where a user starts it.
    pub(crate) fn path(self) -> PathBuf {
        workspace().join(self.name())
    }

    /// Whether it says that it has an option.
    pub(crate) fn has_option(self, option: &str) -> bool {
        let help = Command::new(self.path()).arg("--help").output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains(option))
    }
}

/// The workspace root.
///
/// Cargo's word at run time goes first: a target directory may be shared by several work trees.
pub(crate) fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_owned).unwrap_or(package)
}

/// Builds the programs for release and puts them at the workspace root.
pub(crate) fn build() -> Result<()> {
    for (program, executable) in compile(&mut cargo())? {
        install(&executable, program)
            .with_context(|| format!("cannot copy {executable:?} to {:?}", program.path()))?;
    }
    Ok(())
}

/// Builds the programs so that they need no library of the machine that they run on; where they are.
pub(crate) fn build_static(target: &str) -> Result<Vec<(Program, PathBuf)>> {
    // Flags are for the target alone if it is named, and these go before all that a user may have set.
    let flags = ["-Ctarget-feature=+crt-static", "-Cstrip=symbols"].join("\x1f");
    compile(cargo().env("CARGO_ENCODED_RUSTFLAGS", flags).env("CARGO_BUILD_TARGET", target))
}

/// Builds the programs for release with this cargo; where they are.
fn compile(cargo: &mut Command) -> Result<Vec<(Program, PathBuf)>> {
    let built = cargo
        .args(["build", "--release", "--locked", "--package", "ipc-cli"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo build")?;
    ensure!(built.status.success(), "cargo build: {}", built.status);
    let find = |program: Program| {
        let executable = executable(&built.stdout, program)
            .with_context(|| format!("cargo build does not say where {} is", program.name()))?;
        Ok((program, executable))
    };
    Program::ALL.into_iter().map(find).collect()
}

/// Removes the programs from the workspace root, and all build output.
pub(crate) fn clean() -> Result<()> {
    for program in Program::ALL {
        let path = program.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result.with_context(|| format!("cannot remove {path:?}"))?,
        }
    }
    let status = cargo().arg("clean").status().context("cannot run cargo clean")?;
    ensure!(status.success(), "cargo clean: {status}");
    Ok(())
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Where cargo's messages say that it put a program: the target directory is the user's to choose.
fn executable(messages: &[u8], program: Program) -> Option<PathBuf> {
    let messages = messages.split(|&byte| byte == b'\n');
    let mut values = messages.filter_map(|line| serde_json::from_slice(line).ok());
    values.find_map(|message: serde_json::Value| {
        let is_it = message["target"]["name"] == program.name();
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    })
}

/// Renames a copy into place: a program that runs cannot be overwritten, only replaced.
fn install(executable: &Path, program: Program) -> Result<()> {
    let copy = tempfile::NamedTempFile::new_in(workspace())?.into_temp_path();
    fs::copy(executable, &copy)?;
    copy.persist(program.path())?;
    Ok(())
}
