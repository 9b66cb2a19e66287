//! The list of cases, and those that only copy a file.

use anyhow::Result;

use super::scene::Scene;
use super::{faults, memory, sources};
use crate::build::Program;

/// What is checked, on which programs, and how.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) programs: &'static [Program],
    pub(crate) check: Check,
}

type Check = Box<dyn Fn(&Scene) -> Result<()>>;

impl Case {
    fn new(name: impl Into<String>, check: impl Fn(&Scene) -> Result<()> + 'static) -> Self {
        Self { name: name.into(), programs: &Program::ALL, check: Box::new(check) }
    }
}

/// Bytes in a block of `sharedmem`, if nobody asks for another size.
const BLOCK: u64 = 80 << 10;

/// Bytes in its ring.
pub(crate) const RING: u64 = 32 * BLOCK;

const SIZES: [(&str, u64); 9] = [
    ("0", 0),
    ("1", 1),
    ("block-1", BLOCK - 1),
    ("block", BLOCK),
    ("block+1", BLOCK + 1),
    ("ring-1", RING - 1),
    ("ring", RING),
    ("ring+1", RING + 1),
    ("64MiB", 64 << 20),
];

const PEERS: [usize; 6] = [1, 2, 5, 40, 200, 1000];

/// Every case, the quick ones first.
pub(crate) fn all() -> Vec<Case> {
    let of_size =
        |(name, bytes)| Case::new(format!("size-{name}"), move |scene| copy(scene, &[], 3, bytes));
    let to_peers = |peers| {
        Case::new(format!("peers-{peers}"), move |scene| copy(scene, &[], peers, BLOCK + 1))
    };
    let lockstep =
        Case::new("blocks-1", |scene| copy(scene, &["--blocks", "1"], 3, 20 * BLOCK + 1));
    let mut cases: Vec<_> = SIZES.into_iter().map(of_size).collect();
    cases.extend(PEERS.into_iter().map(to_peers));
    cases.extend([
        Case { programs: &[Program::SharedMemory], ..lockstep },
        Case::new("dir-and-name", dir_and_name),
        Case::new("standard-input", sources::standard_input),
        Case::new("fifo", sources::fifo),
        Case::new("proc-version", sources::proc_version),
        Case::new("name-with-spaces", |scene| sources::name(scene, b" two  spaces ")),
        Case::new("name-with-newline", |scene| sources::name(scene, b"two\nlines")),
        Case::new("name-not-utf8", |scene| sources::name(scene, b"\xff\xfe.\xc3")),
        Case::new("usage-error", faults::usage_error),
        Case::new("missing-file", faults::missing_file),
        Case::new("no-clobber", faults::no_clobber),
        Case::new("replace", faults::replace),
        Case::new("killed-peer", faults::killed_peer),
        Case::new("killed-server", faults::killed_server),
        Case::new("memory", memory::bounded),
    ]);
    cases
}

fn copy(scene: &Scene, options: &[&str], peers: usize, bytes: u64) -> Result<()> {
    scene.write_source("data", bytes)?;
    let count = peers.to_string();
    let ended = scene.run(options.iter().copied().chain([count.as_str(), "data"]))?;
    ended.expect_status(0)?;
    ended.expect_copies_by_pid("data", "data", peers)
}

fn dir_and_name(scene: &Scene) -> Result<()> {
    scene.write_source("data", BLOCK + 1)?;
    let options = ["--dir", "deep/to {peer}", "--name", "{name}.{peer}"];
    let ended = scene.run(options.into_iter().chain(["3", "data"]))?;
    ended.expect_status(0)?;
    let paths: Vec<_> = (0..3).map(|peer| format!("deep/to {peer}/data.{peer}").into()).collect();
    ended.expect_copies("data", &paths)
}
