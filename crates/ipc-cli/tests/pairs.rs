//! Every two options together, on success and with a peer that fails: neither disturbs the other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::paths::paths_of;
use common::run::Run;
use common::{BLOCK, Sandbox, both, contents};

const SIZE: usize = 5 * BLOCK + 7;
const PEERS: usize = 3;

/// Runs the program and nothing else.
const DIRECTLY: &str = r#"exec "$@""#;

/// What an option changes that can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    Directory,
    Name,
    FileName,
    Verify,
    Manifest,
    Preserve,
    Json,
    Null,
    Quiet,
}

/// Options, and what each changes.
const OPTIONS: [(&[&str], Effect); 16] = [
    (&["--dir=to/{peer}"], Effect::Directory),
    (&["--name={name}.{peer}"], Effect::Name),
    (&["--file-name=other"], Effect::FileName),
    (&["--no-clobber"], Effect::Nothing),
    (&["--verify"], Effect::Verify),
    (&["--verify", "--manifest=B3SUMS"], Effect::Manifest),
    (&["--sync"], Effect::Nothing),
    (&["--preserve"], Effect::Preserve),
    (&["--sparse=never"], Effect::Nothing),
    (&["--on-slow=wait"], Effect::Nothing),
    (&["--on-slow=drop"], Effect::Nothing),
    (&["--timeout=600"], Effect::Nothing),
    (&["--progress=always"], Effect::Nothing),
    (&["--json"], Effect::Json),
    (&["--null"], Effect::Null),
    (&["--quiet"], Effect::Quiet),
];

/// Those of `sharedmem` only.
const RING: [(&[&str], Effect); 2] =
    [(&["--blocks=1"], Effect::Nothing), (&["--block-size=1000"], Effect::Nothing)];

/// Two options, or one that is given once.
struct Pair {
    args: Vec<&'static str>,
    effects: [Effect; 2],
}

impl Pair {
    fn has(&self, effect: Effect) -> bool {
        self.effects.contains(&effect)
    }

    /// The path of a peer's received file.
    fn path(&self, peer: usize) -> String {
        let directory = match self.has(Effect::Directory) {
            true => format!("to/{peer}"),
            false => "received-files".to_owned(),
        };
        let name = if self.has(Effect::FileName) { "other" } else { "data" };
        match self.has(Effect::Name) {
            true => format!("{directory}/{name}.{peer}"),
            false => format!("{directory}/{peer}-{name}"),
        }
    }

    /// Runs it, with these arguments at the end.
    fn run<'s>(&self, sandbox: &'s Sandbox, last: &[&str], script: &str) -> Run<'s> {
        let default = if self.has(Effect::Name) { &[][..] } else { &["--name={peer}-{name}"] };
        let args = [&self.args[..], default, last].concat();
        let mut run = sandbox.with(args).in_shell(script).run();
        if self.has(Effect::Json) || self.has(Effect::Null) {
            run = run.listing_itself();
        }
        if self.has(Effect::Quiet) {
            run = run.quietly();
        }
        if self.has(Effect::Manifest) {
            run = run.leaving_also("B3SUMS");
        }
        run
    }

    /// Checks what a run printed that has stored these peers' copies.
    fn check_list(&self, run: &Run<'_>, stored: &[usize]) {
        let stdout = run.stdout();
        let paths = stored.iter().map(|&peer| self.path(peer));
        if self.has(Effect::Json) {
            let object: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            let peers = object["peers"].as_array().unwrap().iter();
            let listed = peers.filter_map(|peer| peer["path"].as_str());
            assert!(listed.eq(paths), "{stdout}");
            let is_verified = self.has(Effect::Verify) || self.has(Effect::Manifest);
            assert_eq!(object["digest"].is_string(), is_verified, "{stdout}");
        } else {
            let end = if self.has(Effect::Null) { "\0" } else { "\n" };
            assert_eq!(stdout, paths.map(|path| path + end).collect::<String>());
        }
    }

    /// Checks what else these peers' copies are to be, beside whole.
    fn check_copies(&self, sandbox: &Sandbox, stored: &[usize]) {
        let source = sandbox.path("data").metadata().unwrap();
        for &peer in stored {
            let copy = sandbox.path(self.path(peer)).metadata().unwrap();
            let same = (copy.mode(), copy.mtime()) == (source.mode(), source.mtime());
            assert_eq!(same, self.has(Effect::Preserve), "{:?}", self.args);
        }
        if self.has(Effect::Manifest) {
            let manifest = fs::read_to_string(sandbox.path("B3SUMS")).unwrap();
            let digest = blake3::hash(contents(SIZE)).to_hex();
            let line = |&peer: &usize| format!("{digest}  {}\n", self.path(peer));
            assert_eq!(manifest, stored.iter().map(line).collect::<String>());
        }
    }
}

/// Every option with each of those behind it in the list.
fn pairs(sandbox: &Sandbox) -> Vec<Pair> {
    let ring = if sandbox.is_sharedmem() { &RING[..] } else { &[] };
    let options = [&OPTIONS[..], ring].concat();
    let mut pairs = Vec::new();
    for (number, (first, one)) in options.iter().enumerate() {
        for (second, other) in &options[number + 1..] {
            let name = |args: &[&'static str]| args[0].split('=').next().unwrap();
            // The same option twice, or two that exclude each other, which other tests are about.
            let is_one = name(first) == name(second);
            let exclude = [*one, *other] == [Effect::Json, Effect::Null];
            if !is_one && !exclude {
                pairs.push(Pair { args: [*first, *second].concat(), effects: [*one, *other] });
            }
        }
    }
    pairs
}

/// Makes a source that has a mode and a time like no new file's.
fn make_source(sandbox: &Sandbox) {
    let source = sandbox.file("data", contents(SIZE));
    fs::set_permissions(&source, Permissions::from_mode(0o751)).unwrap();
    let file = fs::File::options().write(true).open(&source).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

fn clear(sandbox: &Sandbox) {
    for directory in ["received-files", "to"] {
        let _ = fs::remove_dir_all(sandbox.path(directory));
    }
    let _ = fs::remove_file(sandbox.path("B3SUMS"));
}

both!(every_two_options_go_together, |sandbox| {
    make_source(sandbox);
    for pair in pairs(sandbox) {
        let run = pair.run(sandbox, &["3", "data"], DIRECTLY);
        let all: Vec<_> = (0..PEERS).collect();
        pair.check_list(&run, &all);
        run.stores(&paths_of(0..PEERS, |peer| pair.path(peer)), contents(SIZE));
        pair.check_copies(sandbox, &all);
        clear(sandbox);
    }
});

both!(every_two_options_go_together_where_a_peer_fails, |sandbox| {
    make_source(sandbox);
    for pair in pairs(sandbox) {
        // A directory in the place of a received file is in the way whatever the options are.
        sandbox.directory(pair.path(1));
        let run = pair.run(sandbox, &["3", "data"], DIRECTLY);
        pair.check_list(&run, &[0, 2]);
        let keeps = pair.args.contains(&"--no-clobber");
        let why = if keeps { "File exists" } else { "is a directory, which is not replaced" };
        run.loses(&[(1, why)], &paths_of([0, 2], |peer| pair.path(peer)), contents(SIZE));
        pair.check_copies(sandbox, &[0, 2]);
        assert!(Path::new(&sandbox.path(pair.path(1))).is_dir());
        clear(sandbox);
    }
});

both!(a_stream_goes_with_every_option_but_preserve, |sandbox| {
    make_source(sandbox);
    let ring = if sandbox.is_sharedmem() { &RING[..] } else { &[] };
    let all: Vec<_> = (0..PEERS).collect();
    for &(args, effect) in OPTIONS.iter().chain(ring) {
        let pair = Pair { args: args.to_vec(), effects: [effect, Effect::Nothing] };
        let file_name = if pair.has(Effect::FileName) { &[][..] } else { &["--file-name=data"] };
        let last = [file_name, &["3", "-"]].concat();
        let run = pair.run(sandbox, &last, r#"cat data | "$@""#);
        if effect == Effect::Preserve {
            run.refuses(1, "is a stream and has no mode and time of its own");
            continue;
        }
        pair.check_list(&run, &all);
        run.stores(&paths_of(0..PEERS, |peer| pair.path(peer)), contents(SIZE));
        pair.check_copies(sandbox, &all);
        clear(sandbox);
    }
});
