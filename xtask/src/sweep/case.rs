//! What is copied to whom while a call fails.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::point::Target;
use crate::files;

/// One way to run a program; its copies have the peers' numbers as names.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) peers: usize,
    pub(crate) options: &'static [&'static str],
    pub(crate) source: Source,
    /// Where the copies go; `{peer}` stands for the peer's number.
    pub(crate) directory: &'static str,
    /// The peer whose final name exists already.
    pub(crate) older: Option<usize>,
    /// Whether that peer fails for it.
    pub(crate) keeps_older: bool,
    /// What else a run that succeeds has made: the list of its copies' digests.
    pub(crate) manifest: Option<&'static str>,
    /// A call of the process that is aimed at, and what always happens to it, beside what is tried.
    pub(crate) always: Option<(&'static str, &'static str)>,
    /// Whose calls are tried.
    pub(crate) targets: &'static [Target],
    /// Whether this case is part of a quick sweep.
    pub(crate) is_quick: bool,
}

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file of one block.
    Small,
    /// A file that does not fit into the ring.
    Large,
    /// As many bytes through a pipe.
    Stream,
    /// A short one that pauses, so that progress is shown.
    SlowStream,
    /// A file with a hole between two extents, and one at its end.
    Sparse,
}

impl Source {
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::SlowStream)
    }
}

/// What stands under a final name before the run.
pub(crate) const OLDER: &[u8] = b"older";

const PLAIN: Case = Case {
    name: "small",
    peers: 1,
    options: &[],
    source: Source::Small,
    directory: "received-files",
    older: None,
    keeps_older: false,
    manifest: None,
    always: None,
    targets: &Target::ALL,
    is_quick: false,
};

const SINGLE: &[Target] = &[Target::Server, Target::Peer];

/// Every case; the names say what is special.
pub(crate) const ALL: [Case; 13] = [
    Case { is_quick: true, ..PLAIN },
    Case { name: "two", peers: 2, ..PLAIN },
    Case { name: "large", peers: 2, source: Source::Large, ..PLAIN },
    Case { name: "stream", peers: 2, source: Source::Stream, is_quick: true, ..PLAIN },
    Case { name: "replace", older: Some(0), is_quick: true, ..PLAIN },
    Case {
        name: "no-clobber",
        peers: 2,
        options: &["--no-clobber"],
        older: Some(1),
        keeps_older: true,
        ..PLAIN
    },
    Case { name: "sync", options: &["--sync"], directory: "new/deep", targets: SINGLE, ..PLAIN },
    Case { name: "sparse", peers: 2, source: Source::Sparse, targets: SINGLE, ..PLAIN },
    Case { name: "preserve", options: &["--preserve", "--json"], targets: SINGLE, ..PLAIN },
    Case {
        name: "verify",
        peers: 2,
        options: &["--verify", "--manifest=B3SUMS"],
        manifest: Some("B3SUMS"),
        targets: SINGLE,
        is_quick: true,
        ..PLAIN
    },
    Case { name: "directories", peers: 2, directory: "to/{peer}/deep", targets: SINGLE, ..PLAIN },
    Case {
        name: "progress",
        options: &["--progress=always"],
        source: Source::SlowStream,
        targets: &[Target::Painter],
        ..PLAIN
    },
    // A file system without O_TMPFILE, as far as the peer can tell.
    Case {
        name: "hidden",
        peers: 2,
        source: Source::Large,
        always: Some(("openat", "error=EOPNOTSUPP:when=1")),
        targets: &[Target::Peer],
        ..PLAIN
    },
];

impl Case {
    /// The program's arguments.
    pub(crate) fn args(&self) -> Vec<String> {
        let source = if self.source.is_stream() { "-" } else { "data" };
        let fixed = ["--name", "{peer}", "--dir", self.directory];
        let args = self.options.iter().chain(&fixed).map(ToString::to_string);
        args.chain([self.peers.to_string(), source.to_owned()]).collect()
    }

    /// Where a peer's copy gets to, seen from the directory of the run.
    pub(crate) fn copy_of(&self, peer: usize) -> PathBuf {
        let peer = peer.to_string();
        Path::new(&self.directory.replace("{peer}", &peer)).join(peer)
    }

    /// Bytes of the source.
    pub(crate) fn bytes(&self) -> u64 {
        match self.source {
            Source::Small | Source::SlowStream => 5000,
            // More than the ring, and more than a window, holds.
            Source::Large | Source::Stream | Source::Sparse => (3 << 20) + 1,
        }
    }

    /// Puts into the fresh directory `scene` what the run begins with.
    pub(crate) fn prepare(&self, scene: &Path) -> Result<()> {
        let source = scene.join("data");
        if self.source == Source::Sparse {
            files::write_source(&source, self.bytes() / 3)?;
            let file = fs::File::options().write(true).open(&source)?;
            file.write_all_at(b"the second extent", 2 << 20)?;
            file.set_len(self.bytes())?;
        } else {
            files::write_source(&source, self.bytes())?;
        }
        if let Some(peer) = self.older {
            let path = scene.join(self.copy_of(peer));
            let parent = path.parent().context("a copy is in a directory")?;
            fs::create_dir_all(parent)?;
            fs::write(&path, OLDER).with_context(|| format!("cannot write {path:?}"))?;
        }
        Ok(())
    }
}
