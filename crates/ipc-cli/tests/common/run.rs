//! A run that is over: all that must have come of it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::assert::Assert;
use predicates::prelude::*;

use super::Sandbox;
use super::leftovers::{Entry, Snapshot};
use super::paths::{lines_of, parse_paths};

/// What it says before the numbers of peers that were detached.
const DETACHED: &str = "; slow and detached: peer";

/// What it says of copies that are called by a number.
const NUMBER: &str = r#"; ".+" is a file descriptor: "#;

/// A run that is over. Each method says all that must have come of it.
#[derive(Debug)]
#[must_use = "a run is checked by what is expected of it"]
pub(crate) struct Run<'s> {
    sandbox: &'s Sandbox,
    assert: Assert,
    is_heard: bool,
    is_quiet: bool,
    /// What came to be beside the copies that it lists.
    left: Vec<PathBuf>,
    before: Snapshot,
    after: Snapshot,
}

impl<'s> Run<'s> {
    /// A run that changed `before` to `after`; the checks have its standard output if it `is_heard`.
    pub(super) fn new(
        sandbox: &'s Sandbox,
        command: &str,
        output: Output,
        before: Snapshot,
        after: Snapshot,
        is_heard: bool,
    ) -> Self {
        let assert = Assert::new(output).append_context("command", command.to_owned());
        Self { sandbox, assert, is_heard, is_quiet: false, left: Vec::new(), before, after }
    }

    /// It was asked for no summary.
    pub(crate) fn quietly(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    /// It lists its received files in a form of its own, which the case looks at.
    pub(crate) fn listing_itself(mut self) -> Self {
        self.is_heard = false;
        self
    }

    /// This is part of what it says on standard error.
    pub(crate) fn says(mut self, text: &str) -> Self {
        self.assert = self.assert.stderr(predicate::str::contains(text));
        self
    }

    /// It says that the `slow` of its peers were detached. It may say so of others too: on a busy machine
    /// everybody can be slow; and if all others were, there was nobody left for the slow ones to hold up.
    pub(crate) fn detaching(self, slow: &[usize], peers: usize) -> Self {
        let said = String::from_utf8_lossy(&self.assert.get_output().stderr).into_owned();
        let numbers = said.trim_end().split_once(DETACHED).map(|(_, numbers)| numbers);
        let numbers = numbers.unwrap_or_default().trim_start_matches(['s', ' ']).split(", ");
        let detached: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
        let has = |peer: &usize| detached.contains(peer);
        let others = (0..peers).filter(|peer| !slow.contains(peer)).collect::<Vec<_>>();
        assert!(slow.iter().all(has) || others.iter().all(has), "{slow:?}: {}", self.assert);
        self
    }

    /// It says of no peer that it was detached.
    pub(crate) fn detaching_nobody(mut self) -> Self {
        self.assert = self.assert.stderr(predicate::str::contains(DETACHED).not());
        self
    }

    /// There is a whole copy at each of `paths` too, though it does not say so.
    pub(crate) fn leaving(mut self, paths: &[Vec<u8>], contents: &[u8]) -> Self {
        let paths = parse_paths(&lines_of(paths), paths);
        self.left = paths.iter().map(|path| self.resolve(path)).collect();
        self.left.iter().for_each(|path| assert_same(path, contents));
        self
    }

    /// It made this file too, and not in place of another's bytes.
    pub(crate) fn leaving_also(mut self, path: &str) -> Self {
        self.left.push(self.resolve(Path::new(path)));
        self
    }

    /// It wrote to this file where it is, and that is looked at by the case.
    pub(crate) fn writing_into(mut self, path: &str) -> Self {
        let path = self.resolve(Path::new(path));
        let after = self.after.get(&path).copied();
        self.before.extend(after.map(|entry| (path, entry)));
        self
    }

    /// What it printed on standard output.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.assert.get_output().stdout.clone()).unwrap()
    }

    /// What it said on standard error.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.assert.get_output().stderr.clone()).unwrap()
    }

    pub(crate) fn is_success(&self) -> bool {
        self.assert.get_output().status.success()
    }

    /// Exit 0: there is a whole copy at each of `paths`, which are in the order of the peers.
    pub(crate) fn stores(self, paths: &[Vec<u8>], contents: &[u8]) {
        self.stores_what(paths, |path| assert_same(path, contents));
    }

    /// As [`Run::stores`], with a check of one's own for each received file.
    pub(crate) fn stores_what(self, paths: &[Vec<u8>], check: impl Fn(&Path)) {
        let summary = self.summary(paths.len(), paths.len());
        let run = self.ends(0, &summary);
        run.has_stored(paths).iter().for_each(|path| check(path));
    }

    /// Exit 1: these peers have failed for this reason; only the others' copies are there.
    pub(crate) fn loses(self, failed: &[(usize, &str)], paths: &[Vec<u8>], contents: &[u8]) {
        let summary = self.summary(paths.len(), paths.len() + failed.len());
        let lines: Vec<_> = failed.iter().map(|(peer, why)| peer_line(*peer, why)).collect();
        let run = self.ends(1, &[lines, summary].concat());
        run.has_stored(paths).iter().for_each(|path| assert_same(path, contents));
    }

    /// Exit 1: the run was given up for all of its peers, none of which has a copy.
    pub(crate) fn gives_up(self, peers: usize, why: &str) {
        let all: Vec<_> = (0..peers).collect();
        self.gives_up_on(&all, why, &[], &[]);
    }

    /// Exit 1: the run was given up when all but these peers had their copies.
    pub(crate) fn gives_up_on(self, failed: &[usize], why: &str, paths: &[Vec<u8>], all: &[u8]) {
        let summary = self.summary(paths.len(), paths.len() + failed.len());
        let lines = failed.iter().map(|&peer| peer_line(peer, why));
        let lines: Vec<_> = std::iter::once(line_with(why)).chain(lines).chain(summary).collect();
        self.ends(1, &lines).has_stored(paths).iter().for_each(|path| assert_same(path, all));
    }

    /// Says why on one line, with this status, before anything was made.
    pub(crate) fn refuses(self, status: i32, why: &str) {
        self.ends(status, &[line_with(why)]).has_stored(&[]);
    }

    /// Says why for each peer, before anything was made.
    pub(crate) fn refuses_each(self, why: &[&str]) {
        let line = |(peer, why)| format!("peer {peer}: {}", line_with(why));
        let lines: Vec<_> = why.iter().copied().enumerate().map(line).collect();
        self.ends(1, &lines).has_stored(&[]);
    }

    /// All copies are there, but the list of them could not be delivered.
    pub(crate) fn loses_its_report(self, paths: &[Vec<u8>], contents: &[u8], why: &str) {
        self.stores_but(paths, contents, &format!("cannot write to standard output: {why}"));
    }

    /// Exit 1: all copies are there, but something else has failed.
    pub(crate) fn stores_but(self, paths: &[Vec<u8>], contents: &[u8], why: &str) {
        let summary = self.summary(paths.len(), paths.len());
        let run = self.ends(1, &[summary, vec![line_with(why)]].concat());
        run.has_stored(paths).iter().for_each(|path| assert_same(path, contents));
    }

    /// Prints what was asked for, and does nothing else.
    pub(crate) fn prints(mut self, text: impl Predicate<str>) {
        self.assert = self.assert.code(0).stdout(predicate::function(move |bytes: &[u8]| {
            std::str::from_utf8(bytes).is_ok_and(|said| text.eval(said))
        }));
        self.is_quiet = true;
        assert_eq!(self.changes(), BTreeMap::new());
        let _ = self.assert.stderr("");
    }

    /// It died of a signal, had no time to say anything, and left nothing.
    pub(crate) fn leaves_nothing(self) {
        self.has_stored(&[]);
        let _ = self.assert.stdout("").stderr("");
    }

    /// The standard error must match these lines, each behind the program's name. Before them it may say
    /// whom it waited for: on a busy machine that can be anybody.
    fn ends(mut self, status: i32, lines: &[String]) -> Self {
        let mut expected = format!("^(?:{}: waiting for peer .+\n)*", self.sandbox.program());
        for line in lines {
            writeln!(expected, "{}: {line}", self.sandbox.program()).unwrap();
        }
        self.assert = self.assert.code(status);
        self.assert = self.assert.stderr(predicate::str::is_match(expected + "$").unwrap());
        self
    }

    fn summary(&self, stored: usize, peers: usize) -> Vec<String> {
        let amount = r", [0-9.]+ \w+ each, in \d+\.\d{3} s \(.+/s in all\)";
        let amount = if stored > 0 { amount } else { "" };
        let line = format!(
            r#"{stored} of {peers} peers stored ".+"{amount}(?:{DETACHED}s? .+?)?(?:{NUMBER}.+)?"#
        );
        if self.is_quiet { Vec::new() } else { vec![line] }
    }

    /// Checks that exactly these received files came to be, and standard output says so.
    fn has_stored(&self, paths: &[Vec<u8>]) -> Vec<PathBuf> {
        let stdout = &self.assert.get_output().stdout;
        let said = if self.is_heard { stdout.as_slice() } else { &lines_of(paths) };
        let stored = parse_paths(said, paths);
        let stored: Vec<_> = stored.into_iter().map(|path| self.resolve(&path)).collect();
        let mut changes = self.changes();
        for path in &stored {
            let (before, after) = changes.remove(path).unwrap_or_default();
            assert!(after.is_some(), "{path:?} is not there: {}", self.assert);
            assert!(before != after, "{path:?} was written in place");
        }
        for path in &self.left {
            let (before, after) = changes.remove(path).unwrap_or_default();
            assert!(after.is_some() && before != after, "{path:?} is not new: {}", self.assert);
        }
        changes.retain(|path, (before, after)| {
            let was_there = before.is_some() || after.is_none();
            was_there || !stored.iter().any(|stored| stored.starts_with(path))
        });
        assert_eq!(changes, BTreeMap::new(), "nothing else is touched: {}", self.assert);
        stored
    }

    /// The path as a snapshot has it, the last name's own link not followed.
    fn resolve(&self, path: &Path) -> PathBuf {
        let path = self.sandbox.path(path);
        let parent = path.parent().unwrap().canonicalize();
        parent
            .unwrap_or_else(|error| panic!("{path:?}: {error}: {}", self.assert))
            .join(path.file_name().unwrap())
    }

    /// The inodes that each path had before and has after the run, where anything changed.
    fn changes(&self) -> BTreeMap<PathBuf, (Option<u64>, Option<u64>)> {
        let paths: BTreeSet<_> = self.before.keys().chain(self.after.keys()).collect();
        let states =
            paths.into_iter().map(|path| (path, self.before.get(path), self.after.get(path)));
        let changed = states.filter(|(_, before, after)| before != after);
        changed
            .map(|(path, before, after)| {
                let inode = |entry: &Entry| entry.inode;
                (path.clone(), (before.map(inode), after.map(inode)))
            })
            .collect()
    }
}

/// Checks that a file holds these bytes.
pub(crate) fn assert_same(path: &Path, contents: &[u8]) {
    let stored = fs::read(path).unwrap();
    if stored != contents {
        let same = stored.iter().zip(contents).take_while(|(stored, sent)| stored == sent).count();
        panic!("{path:?}: {} bytes of {}, right up to {same}", stored.len(), contents.len());
    }
}

fn peer_line(peer: usize, why: &str) -> String {
    format!(r"peer {peer} \(pid \d+\): {}", line_with(why))
}

/// A pattern for a line with this text in it.
fn line_with(text: &str) -> String {
    let mut pattern = String::from(".*");
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + ".*"
}
