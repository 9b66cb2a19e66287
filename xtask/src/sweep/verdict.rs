//! What may come of a run, and what may not.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::case::{Case, OLDER};
use super::faults;
use super::launch::Ended;
use super::point::{Action, Series, Target};
use crate::build::Program;
use crate::network;
use crate::place::{Below, Place};

/// What is wrong with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It ended, but not as it must.
    Outcome(String),
    /// It did not end.
    Hang,
    /// Something stayed.
    Leftover(String),
}

/// What there is to say against a run.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) wrong: Vec<Wrong>,
    /// What stayed where that can't be helped, as the README says.
    pub(crate) known: Vec<String>,
}

/// Judges a run in which these calls were hit, one a process.
pub(crate) fn judge(
    place: &Place,
    series: &Series,
    hits: &[String],
    ended: &Ended,
) -> Result<Verdict> {
    let Below { files, empty } = Below::of(&ended.scene)?;
    let copies = Copies::among(series.case, &files);
    let mut wrong = copies.wrong.clone();
    match ended.status {
        None => wrong.push(Wrong::Hang),
        Some(status) => {
            let outcomes = Outcomes { series, hits, copies: &copies, ended };
            let what = match (status.code(), status.signal()) {
                (Some(0), _) => outcomes.of_success(),
                (Some(1), _) => outcomes.of_failure(),
                (_, Some(9)) => outcomes.of_death(),
                _ => vec![format!("the server ended with {status}")],
            };
            wrong.extend(what.into_iter().map(Wrong::Outcome));
        }
    }
    if ended.stderr.contains("panicked") {
        wrong.push(Wrong::Outcome("a process panicked".to_owned()));
    }
    wrong.extend(ended.processes.iter().cloned().map(Wrong::Leftover));
    wrong.extend(network::abstract_names()?.into_iter().map(Wrong::Leftover));
    let mut known = Vec::new();
    // All that knew a name may have been killed at once, or kept from removing it.
    let is_removal = matches!(series.call.as_str(), "unlinkat" | "rmdir");
    let is_in_all = hits.len() > 1 && (series.action == Action::Kill || is_removal);
    let names = place.take_shared_memory()?.into_iter().chain(copies.others);
    let names = names.map(|name| (is_in_all && is_passing(&name), name));
    // A process that may not remove a directory leaves it.
    let directories = empty.into_iter().map(|path| (is_in_all || is_removal, path));
    for (is_known, name) in names.chain(directories) {
        let name = format!("{} was left", name.display());
        if is_known { known.push(name) } else { wrong.push(Wrong::Leftover(name)) }
    }
    Ok(Verdict { wrong, known })
}

/// Checks a run that nothing happened to.
pub(crate) fn check_unharmed(
    place: &Place,
    program: Program,
    case: &'static Case,
    ended: &Ended,
) -> Result<()> {
    let action = Action::Harmless("none");
    let (target, call, part) = (Target::Server, String::new(), "");
    let series = Series { program, case, target, call, part, action, skipped: 0 };
    let wrong = judge(place, &series, &[], ended)?.wrong;
    ensure!(wrong.is_empty(), "a run that nothing happens to: {wrong:?}: {:?}", ended.stderr);
    Ok(())
}

/// Whether it is a name that a file has for a moment only: a semaphore's, or a hidden one.
fn is_passing(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("sem.") || (name.starts_with('.') && name.contains('-'))
}

/// The files that a run has left, in their roles.
struct Copies {
    /// The peers that have one.
    whole: Vec<usize>,
    /// How many the manifest lists.
    listed: usize,
    /// Files that should not be there.
    others: Vec<PathBuf>,
    wrong: Vec<Wrong>,
}

impl Copies {
    fn among(case: &Case, files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let source = files.get(&PathBuf::from("data"));
        let (whole, others, wrong) = (Vec::new(), Vec::new(), Vec::new());
        let mut copies = Self { whole, listed: 0, others, wrong };
        let peers: BTreeMap<_, _> =
            (0..case.peers).map(|peer| (case.copy_of(peer), peer)).collect();
        for (path, bytes) in files {
            match peers.get(path) {
                Some(&peer) if Some(bytes) == source => copies.whole.push(peer),
                Some(&peer) if case.older == Some(peer) && bytes == OLDER => {}
                Some(_) => {
                    copies.wrong.push(Wrong::Outcome(format!("{} is not whole", path.display())));
                }
                None if path.as_os_str() == "data" => {}
                // Who is in it is looked at when all copies are known.
                None if case.manifest.is_some_and(|manifest| path.as_os_str() == manifest) => {}
                None => copies.others.push(path.clone()),
            }
        }
        if let Some(manifest) = case.manifest
            && let Some(bytes) = files.get(Path::new(manifest))
        {
            let text = String::from_utf8_lossy(bytes);
            let line = |peer: &usize| format!("  {}\n", case.copy_of(*peer).display());
            // A peer that could not say that it has stored its copy has failed, and its copy is whole.
            let is_whole =
                |entry: &str| copies.whole.iter().any(|peer| entry.ends_with(&line(peer)));
            copies.listed = text.split_inclusive('\n').count();
            if !text.split_inclusive('\n').all(is_whole) {
                copies.wrong.push(Wrong::Outcome(format!("the manifest has {text:?}")));
            }
        }
        if let Some(older) = case.older.filter(|_| case.keeps_older)
            && copies.whole.contains(&older)
        {
            copies.wrong.push(Wrong::Outcome("an existing file was replaced".to_owned()));
        }
        copies
    }
}

struct Outcomes<'a> {
    series: &'a Series,
    hits: &'a [String],
    copies: &'a Copies,
    ended: &'a Ended,
}

impl Outcomes<'_> {
    fn of_success(&self) -> Vec<String> {
        let case = self.series.case;
        let mut wrong = Vec::new();
        if self.copies.whole.len() != case.peers {
            wrong.push(format!(
                "exit status 0, but the copies are those of {:?}",
                self.copies.whole
            ));
        }
        if case.manifest.is_some() && self.copies.listed != case.peers {
            wrong.push(format!("exit status 0, but the manifest lists {}", self.copies.listed));
        }
        // An object is one line.
        let lines = if case.options.contains(&"--json") { 1 } else { case.peers };
        if self.ended.stdout.lines().count() != lines {
            wrong.push(format!("exit status 0, but it lists {:?}", self.ended.stdout));
        }
        wrong
    }

    fn of_failure(&self) -> Vec<String> {
        let Series { program, case, target, action, .. } = self.series;
        let said = &self.ended.stderr;
        let mut wrong = Vec::new();
        // What was hit may be the message itself.
        let is_lost = self.hits.iter().any(|call| call.starts_with("write(2, "));
        let is_odd = |line: &&str| !line.starts_with(&format!("{}: ", program.name()));
        if let Some(line) = said.lines().find(is_odd).filter(|_| !is_lost) {
            wrong.push(format!("a message that is not the program's: {line:?}"));
        }
        if *target == Target::Painter {
            wrong.push(format!("exit status 1, though it only shows the progress: {said:?}"));
            return wrong;
        }
        let misses = |reason: &str| !is_lost && !said.contains(reason);
        match action {
            Action::Optional(_, without) if !case.keeps_older => {
                wrong.push(format!("exit status 1, and not this: {without}: {said:?}"));
            }
            _ if action.is_survived() && !case.keeps_older => {
                wrong.push(format!("exit status 1, though it could go on: {said:?}"));
            }
            _ if action.is_survived() && misses("File exists") => {
                wrong.push(format!("an existing file is no reason: {said:?}"));
            }
            Action::Fatal(errno) if !case.keeps_older && misses(&reason_of(errno)) => {
                wrong.push(format!("the reason ({}) is not told: {said:?}", reason_of(errno)));
            }
            Action::Kill if !case.keeps_older && misses("killed by SIGKILL") => {
                wrong.push(format!("a killed peer is not told: {said:?}"));
            }
            _ => {}
        }
        let is_survived = action.is_survived();
        if *target == Target::Peer || (is_survived && case.keeps_older) {
            let excused = [(!is_survived).then_some(0), case.older.filter(|_| case.keeps_older)];
            let due = (0..case.peers).filter(|&peer| !excused.contains(&Some(peer)));
            for peer in due.filter(|peer| !self.copies.whole.contains(peer)) {
                wrong.push(format!("peer {peer} has no copy, though it could: {said:?}"));
            }
        }
        wrong
    }

    fn of_death(&self) -> Vec<String> {
        let is_due = self.series.action == Action::Kill
            && matches!(self.series.target, Target::Server | Target::Together);
        if is_due { Vec::new() } else { vec!["the server was killed by SIGKILL".to_owned()] }
    }
}

/// What the program says of an error.
fn reason_of(errno: &str) -> String {
    let number = faults::errno(errno).map(rustix::io::Errno::raw_os_error).unwrap_or_default();
    let text = std::io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
