//! Both packages are installed on a machine (`machine.rs`), used (`checks.rs`), and removed.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::checks::{CHECKS, Kind};
use super::machine::Machine;
use super::release::Release;
use super::{Packed, layout};
use crate::installed;
use crate::table::Table;

/// What has come of the checks.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    skipped: Vec<String>,
    failed: Vec<String>,
}

/// Says which checks there cannot be on a copy of this system.
pub(crate) fn announce_skipped() {
    let missing = CHECKS.iter().filter_map(|check| check.needs).map(Path::new);
    let missing =
        missing.filter(|path| !path.exists()).filter_map(|path| path.file_name()?.to_str());
    let mut missing: Vec<_> = missing.collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let (names, install) = (missing.join(", "), installed::installing(&missing));
        println!("SKIPPED will be what needs {names}: {install}");
    }
}

/// Checks what was packed, and says what has come of it.
pub(crate) fn run(packed: &Packed, release: &Release) -> Result<ExitCode> {
    let mut tally = Tally::default();
    let mut table = Table::new(&[("", 7), ("check", 12), ("", 0)])?;
    tally.note(&mut table, "both", "packed again", || is_packed_again(packed, release))?;
    let directory = layout::directory().join("machine");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {directory:?}"))?;
    match Machine::new(&directory) {
        Ok(machine) => {
            for kind in Kind::ALL {
                tally.use_package(&mut table, &machine, kind, packed)?;
            }
        }
        Err(error) => tally.skipped.push(format!("installing: {error:#}")),
    }
    for skipped in &tally.skipped {
        println!("SKIPPED: {skipped}");
    }
    for failed in &tally.failed {
        println!("\n{failed}");
    }
    let Tally { passed, failed, skipped } = tally;
    println!("dist: {passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the same files give the same bytes.
fn is_packed_again(packed: &Packed, release: &Release) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let again = Packed::pack(release, directory.path())?;
    for (one, other) in [(&packed.tarball, &again.tarball), (&packed.package, &again.package)] {
        ensure!(
            fs::read(one)? == fs::read(other)?,
            "{one:?} has other bytes when it is made again"
        );
    }
    Ok(())
}

impl Tally {
    /// Installs a package, makes all checks of its kind, and removes it.
    fn use_package(
        &mut self,
        table: &mut Table,
        machine: &Machine,
        kind: Kind,
        packed: &Packed,
    ) -> Result<()> {
        let file = machine.bring(match kind {
            Kind::Tarball => &packed.tarball,
            Kind::Package => &packed.package,
        })?;
        let file = file.to_str().context("its name is ours")?;
        let variables = [("FILE", file), ("PREFIX", kind.prefix()), ("VERSION", Release::VERSION)];
        let run = |script| machine.run(script, &variables).map(drop);
        self.note(table, kind.name(), "install", || run(kind.install()))?;
        for check in CHECKS.iter().filter(|check| check.kinds.contains(&kind)) {
            match check.needs.filter(|path| !machine.has(path)) {
                Some(path) => {
                    let (kind, check) = (kind.name(), check.name);
                    self.skipped.push(format!("{kind}, {check}: there is no {path}"));
                }
                None => self.note(table, kind.name(), check.name, || run(check.script))?,
            }
        }
        self.note(table, kind.name(), "remove", || {
            run(kind.remove())?;
            nothing_is_left(machine, kind)
        })
    }

    fn note(
        &mut self,
        table: &mut Table,
        kind: &str,
        check: &str,
        result: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        table.cell(kind)?;
        table.cell(check)?;
        match result() {
            Ok(()) => {
                self.passed += 1;
                table.cell("ok")?;
            }
            Err(error) => {
                self.failed.push(format!("{kind}, {check}: {error:#}"));
                table.cell("FAILED")?;
            }
        }
        Ok(())
    }
}

/// tar knows nothing of the directories that it has made.
fn nothing_is_left(machine: &Machine, kind: Kind) -> Result<()> {
    let mut left = machine.additions()?;
    left.retain(|path| kind == Kind::Package || !machine.is_directory(path));
    ensure!(left.is_empty(), "it leaves {left:?}");
    Ok(())
}
