//! The command line, parsed once into the types that everything else trusts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, ValueEnum};
use ipc_core::{
    DirectoryTemplate, Error, Existing, FileName, Job, NameTemplate, OnSlow, PeerCount, Source,
};
use ipc_shm::{BlockCount, BlockSize};

use crate::environment::check_stdin;

/// Copy one file to many local processes over AF_UNIX sockets.
///
/// Forks NUMBER_OF_PEERS processes and copies FILE to each of them. Every one stores its own copy,
/// which has its final name only once it is whole.
#[derive(Debug, Parser)]
#[command(name = "socket", version, max_term_width = 80)]
pub(crate) struct SocketArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Copy one file to many local processes over shared memory.
///
/// Forks NUMBER_OF_PEERS processes and copies FILE to each of them through a ring of blocks in
/// shared memory. Every one stores its own copy, which has its final name only once it is whole.
#[derive(Debug, Parser)]
#[command(name = "sharedmem", version, max_term_width = 80)]
pub(crate) struct SharedMemoryArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    /// Size of a block, in bytes or with a unit: 4096, 80KiB, 1M
    #[arg(long, value_name = "SIZE", default_value = "80KiB", value_parser = parse_block_size)]
    pub(crate) block_size: BlockSize,

    /// Most blocks in the ring; a short file gets fewer, and 1 makes server and peers take turns
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = parse_block_count)]
    pub(crate) blocks: BlockCount,
}

/// What both programs take.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// How many peers to copy to
    #[arg(value_name = "NUMBER_OF_PEERS", value_parser = parse_peers)]
    peers: PeerCount,

    /// The file to copy; - is standard input
    file: PathBuf,

    /// Where received files go; {peer} may stand in it, missing directories are made
    #[arg(short, long, default_value = "received-files", allow_hyphen_values = true,
          value_parser = OsStringValueParser::new().try_map(|text| DirectoryTemplate::new(&text)))]
    dir: DirectoryTemplate,

    /// Template of the final name; {pid}, {peer} (number, from 0) and {name} stand for what they say,
    /// {{ and }} for braces
    #[arg(long, value_name = "TEMPLATE", default_value = "pid-{pid}_{name}", allow_hyphen_values = true,
          value_parser = OsStringValueParser::new().try_map(|text| NameTemplate::new(&text)))]
    name: NameTemplate,

    /// What {name} is, instead of the file's own name
    #[arg(long, value_name = "NAME", allow_hyphen_values = true,
          value_parser = OsStringValueParser::new().try_map(parse_file_name))]
    file_name: Option<FileName>,

    /// Fail a peer whose final name exists, instead of replacing it
    #[arg(long)]
    no_clobber: bool,

    /// Let every peer read its copy back; its BLAKE3 digest must be that of what was read of FILE
    #[arg(long)]
    verify: bool,

    /// Write the digests of all received files to FILE, as `b3sum --check` takes them
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) manifest: Option<PathBuf>,

    /// End only when files and names are on the disk
    #[arg(long)]
    sync: bool,

    /// Give received files the mode and modification time of FILE
    #[arg(short, long)]
    preserve: bool,

    /// What becomes of the holes of a sparse FILE
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    sparse: Sparse,

    /// Kill a peer, which has failed then, that does nothing for so long while the run waits for it
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,

    /// What to do with a peer that holds the others up [default: detach; wait if FILE is a stream]
    #[arg(long, value_name = "WHAT", value_enum)]
    on_slow: Option<WhenSlow>,

    /// End paths on standard output with NUL instead of a newline, as `xargs -0` takes them
    #[arg(short = '0', long)]
    pub(crate) null: bool,

    /// Print no summary
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// [`OnSlow`] as the command line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenSlow {
    /// It reads the rest of FILE by itself
    Detach,
    /// It is waited for
    Wait,
    /// It fails
    Drop,
}

/// What becomes of holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sparse {
    /// They stay holes
    Auto,
    /// They are stored as zeros
    Never,
}

impl CommonArgs {
    /// What becomes of a peer that holds the others up.
    pub(crate) fn on_slow(&self) -> OnSlow {
        match self.on_slow {
            None => OnSlow::default(),
            Some(WhenSlow::Detach) => OnSlow::Detach,
            Some(WhenSlow::Wait) => OnSlow::Wait,
            Some(WhenSlow::Drop) => OnSlow::Drop,
        }
    }

    /// Why the arguments, each right by itself, are wrong together.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        if self.file.as_os_str() == "-" && self.on_slow == Some(WhenSlow::Detach) {
            return Some(
                "standard input can be read only once, so no peer can read it by itself: \
                 use --on-slow wait or drop",
            );
        }
        // `Job::check` would find it too, but only after a FIFO has been waited for.
        let apart = self.name.tells_peers_apart() || self.dir.tells_peers_apart();
        (self.peers.get() > 1 && !apart).then_some(
            "--dir and --name give all peers the same path: put {pid} or {peer} into --name",
        )
    }

    /// What is to be done; opens the source.
    pub(crate) fn into_job(self) -> anyhow::Result<Job> {
        let source = if self.file.as_os_str() == "-" {
            check_stdin().map_err(Error::system("open standard input"))?;
            let stdin = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0)
                .map_err(Error::system("open standard input"))?;
            Source::from_fd(stdin, FileName::new(b"stdin")?)?
        } else {
            Source::open(&self.file)?
        };
        let must_detach = self.on_slow == Some(WhenSlow::Detach);
        ensure!(
            source.is_regular() || !must_detach,
            "{:?} can be read only once, so no peer can read it by itself: use --on-slow wait or drop",
            self.file
        );
        ensure!(
            source.is_regular() || !self.preserve,
            "{:?} is a stream and has no mode and time of its own: leave out --preserve",
            self.file
        );
        let source = match self.file_name {
            Some(name) => source.with_name(name),
            None => source,
        };
        let source = match self.sparse {
            Sparse::Auto => source,
            Sparse::Never => source.with_holes_as_data(),
        };
        Ok(Job {
            source: if self.verify { source.with_digest() } else { source },
            peers: self.peers,
            directory: self.dir,
            name: self.name,
            existing: if self.no_clobber { Existing::Keep } else { Existing::Replace },
            sync: self.sync,
            preserve: self.preserve,
            timeout: self.timeout,
        })
    }
}

fn parse_peers(text: &str) -> Result<PeerCount, String> {
    let count = text.parse().ok().and_then(PeerCount::new);
    count.ok_or_else(|| format!("it is not a number from 1 to {}", PeerCount::MAX))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|seconds| !seconds.is_zero());
    seconds.ok_or_else(|| "it is not a number of seconds, like 30 or 0.5".to_owned())
}

fn parse_file_name(text: OsString) -> Result<FileName, String> {
    FileName::new(text.as_bytes()).map_err(|error| match error {
        Error::Invalid { reason, .. } => reason.to_owned(),
        error => error.to_string(),
    })
}

fn parse_block_count(text: &str) -> Result<BlockCount, String> {
    let count = text.parse().ok().and_then(BlockCount::new);
    count.ok_or_else(|| format!("it is not a number from 1 to {}", BlockCount::MAX))
}

fn parse_block_size(text: &str) -> Result<BlockSize, String> {
    let bytes = parse_size(text).and_then(|bytes| u32::try_from(bytes).ok());
    bytes
        .and_then(BlockSize::new)
        .ok_or_else(|| "it is not a size from 1 byte to 1GiB, like 4096, 80KiB or 1M".to_owned())
}

/// Bytes in a size as GNU programs write it: `K` and `KiB` are 1024, `KB` is 1000.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" | "k" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        SocketArgs::command().debug_assert();
        SharedMemoryArgs::command().debug_assert();
    }

    #[test]
    fn the_documented_defaults_are_those_of_the_libraries() {
        let args = SharedMemoryArgs::try_parse_from(["sharedmem", "1", "file"]).unwrap();
        assert_eq!(args.block_size, BlockSize::default());
        assert_eq!(args.blocks, BlockCount::default());
        assert_eq!(args.common.name, NameTemplate::default());
    }

    #[test]
    fn sizes_have_the_units_of_gnu_programs() {
        for (text, bytes) in [
            ("1", Some(1)),
            ("4096", Some(4096)),
            ("80KiB", Some(81_920)),
            ("80K", Some(81_920)),
            ("2M", Some(2 << 20)),
            ("1kB", Some(1000)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("K", None),
            ("-1", None),
            ("1.5K", None),
            ("1 K", None),
            ("1KiBB", None),
            ("99999999999999999999", None),
            ("99999999999999999G", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
