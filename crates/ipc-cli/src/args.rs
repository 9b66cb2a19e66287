//! The command line, parsed once into the types that everything else trusts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, ValueEnum};
use ipc_core::{
    Directories, DirectoryTemplate, Error, Existing, FileName, Job, NameTemplate, OnSlow,
    PeerCount, Source,
};
use ipc_shm::{BlockCount, BlockSize};

use crate::environment::check_stdin;
use crate::manifest::is_descriptor;
use crate::output::Format;
use crate::progress;
use crate::size::parse_size;

/// Copy one file to many local processes over AF_UNIX sockets.
///
/// Forks NUMBER_OF_PEERS processes and copies FILE to each of them. Each stores its own copy, which
/// gets its final name only once it is whole.
///
/// Standard output gets the paths of the received files, or with --json the report, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "socket", version, max_term_width = 80, args_override_self = true,
          after_long_help = examples("socket"))]
pub(crate) struct SocketArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Copy one file to many local processes over shared memory.
///
/// Forks NUMBER_OF_PEERS processes and copies FILE to each of them through a ring of blocks in
/// shared memory. Each stores its own copy, which gets its final name only once it is whole.
///
/// Standard output gets the paths of the received files, or with --json the report, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "sharedmem", version, max_term_width = 80, args_override_self = true,
          after_long_help = examples("sharedmem"))]
pub(crate) struct SharedMemoryArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    /// Size of a block, in bytes or with a unit: 4096, 80KiB, 1M
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, default_value = "80KiB", value_parser = parse_block_size,
          help_heading = MEMORY)]
    pub(crate) block_size: BlockSize,

    /// The most blocks the ring may have; with 1, server and peers take turns
    ///
    /// A file that is less than 32 times as long as the ring gets a shorter one. The ring, and a page
    /// for each peer, have to fit into /dev/shm.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true, default_value = "32", value_parser = parse_block_count,
          help_heading = MEMORY)]
    pub(crate) blocks: BlockCount,
}

/// What both programs take.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// How many peers (forked processes) are to store a copy each: 1 to 10000
    #[arg(value_name = "NUMBER_OF_PEERS", value_parser = parse_peers)]
    peers: PeerCount,

    /// The file to copy; - is standard input
    pub(crate) file: PathBuf,

    /// Where received files go; {peer} may stand in it
    ///
    /// That is the peer's number, from 0, so that every peer can store on a disk of its own; {{ and }}
    /// stand for braces. Missing directories are made. The option can also be given once for each peer, in
    /// the order of their numbers. A peer fails alone whose own directory cannot be used.
    #[arg(short, long, default_value = "received-files", allow_hyphen_values = true,
          help_heading = NAMES,
          value_parser = OsStringValueParser::new().try_map(|text| DirectoryTemplate::new(&text)))]
    dir: Vec<DirectoryTemplate>,

    /// Final name; {pid}, {peer} and {name} may stand in it
    ///
    /// They stand for the peer's process id, its number from 0, and the name of FILE; {{ and }} stand
    /// for braces.
    #[arg(long, value_name = "TEMPLATE", default_value = "pid-{pid}_{name}", allow_hyphen_values = true,
          help_heading = NAMES,
          value_parser = OsStringValueParser::new().try_map(|text| NameTemplate::new(&text)))]
    name: NameTemplate,

    /// What {name} is, instead of the file's own name
    ///
    /// Standard input is called stdin, and a pipe of the shell's, as in <(zcat model.bin.gz), has but a
    /// number, like 63.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, help_heading = NAMES,
          value_parser = OsStringValueParser::new().try_map(parse_file_name))]
    file_name: Option<FileName>,

    /// Fail a peer whose final name exists, instead of replacing it
    #[arg(long, help_heading = NAMES)]
    no_clobber: bool,

    /// Read every copy back and compare it, by BLAKE3
    ///
    /// Every peer reads its copy back (with --sync, from the disk); its digest must equal that of the
    /// bytes sent. Unless FILE is a stream, it too is read again at the end and must not have changed.
    #[arg(long, help_heading = COPIES)]
    verify: bool,

    /// With --verify: write the digests of all copies to FILE, for `b3sum --check`
    ///
    /// An older FILE, or the one a link leads to, is replaced in one step; a device, a FIFO or an open file
    /// (/dev/fd/3) is written to. The program's own standard streams are refused, unless they are devices.
    #[arg(long, value_name = "FILE", requires = "verify", help_heading = COPIES)]
    pub(crate) manifest: Option<PathBuf>,

    /// Wait until files and names are on the disk
    #[arg(long, help_heading = COPIES)]
    sync: bool,

    /// Give received files the mode and modification time of FILE
    #[arg(short, long, help_heading = COPIES)]
    preserve: bool,

    /// Keep holes of a sparse FILE as holes, or store them as zeros
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", help_heading = COPIES)]
    sparse: Sparse,

    /// What to do with a peer that holds the others up [default: detach; wait if FILE is a stream]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = SLOW)]
    on_slow: Option<WhenSlow>,

    /// Kill a peer that does nothing for this long
    ///
    /// That peer has failed. Only time in which the run waits for it counts; with --sync, time spent
    /// waiting for the disk counts too. Without this option it is waited for, and named after 5 seconds.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds, help_heading = SLOW)]
    timeout: Option<Duration>,

    /// When to show how far the peers have come
    ///
    /// It appears on standard error after half a second. Of more than 10 peers only the slowest 4 have
    /// a bar. With --verify, bytes read back count too.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", help_heading = OUTPUT)]
    pub(crate) progress: progress::When,

    /// Print the report as a JSON object instead of paths
    ///
    /// It is printed on failure too, unless the arguments are wrong.
    #[arg(long, conflicts_with = "null", help_heading = OUTPUT)]
    json: bool,

    /// End paths with NUL instead of a newline, for `xargs -0`
    #[arg(short = '0', long, help_heading = OUTPUT)]
    null: bool,

    /// Print no summary, and progress only with --progress always
    #[arg(short, long, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
}

const NAMES: &str = "Directories and names";
const COPIES: &str = "Copies";
const SLOW: &str = "Slow peers";
const MEMORY: &str = "Shared memory";
const OUTPUT: &str = "Output";

/// What `--help` ends with.
fn examples(program: &str) -> String {
    format!(
        "\
Examples:
  Three copies in received-files/, under names that begin with pid-:
      {program} 3 model.bin

  One copy on each of four disks, read back and compared:
      {program} --verify --dir 'disk{{peer}}' --name '{{name}}' 4 model.bin

  One copy in each of three directories:
      {program} --dir ssd --dir usb/models --dir backup 3 model.bin

  Unpack once, store eight times:
      zcat model.bin.gz | {program} --file-name model.bin 8 -

  The paths as arguments of another program, whatever is in them:
      {program} -0 3 model.bin | xargs -0 ls -l

  What failed, and why, for a script:
      {program} --json 3 model.bin | jq '.peers[] | select(.error)'

Exit status:
  0  every peer has stored a whole copy
  1  anything else; standard error names each failed peer and the reason
  2  wrong arguments"
    )
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
    /// What standard output gets.
    pub(crate) fn format(&self) -> Format {
        match (self.json, self.null) {
            (true, _) => Format::Json,
            (false, true) => Format::Paths(b'\0'),
            (false, false) => Format::Paths(b'\n'),
        }
    }

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
    pub(crate) fn contradiction(&self) -> Option<String> {
        if self.file.as_os_str() == "-" && self.on_slow == Some(WhenSlow::Detach) {
            return Some(
                "standard input can be read only once, so no peer can read it by itself: \
                 use --on-slow wait or drop"
                    .to_owned(),
            );
        }
        // `Job::check` would find these too, but only after a FIFO has been waited for.
        let (peers, directories) = (self.peers.get(), self.dir.len());
        if directories > 1 && Ok(peers) != u32::try_from(directories) {
            return Some(format!(
                "--dir is given {directories} times for {peers} peers: \
                 give it once, or once for each peer"
            ));
        }
        if self.name.tells_peers_apart() {
            return None;
        }
        let directories = Directories::from(self.dir.clone());
        let mut seen = BTreeMap::new();
        for peer in self.peers.ids() {
            let directory = directories.render(peer);
            let parts = directory.components().filter(|&part| part != Component::CurDir);
            if let Some(other) = seen.insert(parts.collect::<PathBuf>(), peer) {
                return Some(match directories {
                    Directories::Each(_) => format!(
                        "--dir and --name give peers {other} and {peer} the same path: \
                         put {{pid}} or {{peer}} into --name"
                    ),
                    Directories::All(_) => "--dir and --name give all peers the same path: \
                         put {pid} or {peer} into --name, or {peer} into --dir"
                        .to_owned(),
                });
            }
        }
        None
    }

    /// Whether copies are called by the number of an open file, as that of a shell's `<(...)`.
    pub(crate) fn has_number_for_a_name(&self) -> bool {
        let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
        self.file_name.is_none()
            && self.name.needs_name()
            && self.file.file_name().is_some_and(is_number)
            && self
                .file
                .symlink_metadata()
                .is_ok_and(|link| link.is_symlink() && is_descriptor(&link))
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
            directories: self.dir.into(),
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
}
