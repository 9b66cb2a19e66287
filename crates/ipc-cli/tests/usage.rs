//! Wrong arguments end with status 2 and one line that says why, before anything is made; the help
//! says what the right ones are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use common::both;
use common::paths::numbered;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};

both!(a_wrong_number_of_peers, |sandbox| {
    sandbox.file("data", b"contents");
    let numbers =
        ["0", "-1", "1x", "", "3.5", " 1", "0x2", "10001", "99999999999", "1e3", "-", "--1"];
    for number in numbers {
        let why = match number {
            "-" => "invalid value '-' for '<NUMBER_OF_PEERS>'".into(),
            "--1" => "unexpected argument '--1' found".into(),
            _ => format!(
                "invalid value '{number}' for '<NUMBER_OF_PEERS>': it is not a number from 1"
            ),
        };
        sandbox.run([number, "data"]).refuses(2, &why);
    }
    let not_utf8 = OsStr::from_bytes(b"\xff");
    sandbox.run([not_utf8, "data".as_ref()]).refuses(2, "invalid UTF-8");
});

both!(too_few_or_too_many_arguments, |sandbox| {
    sandbox.file("data", b"contents");
    let missing = "the following required arguments were not provided: ";
    for (args, why) in [
        (&[][..], format!("{missing}<NUMBER_OF_PEERS> <FILE>")),
        (&["2"], format!("{missing}<FILE>; - is standard input")),
        (
            &["2", "data", "to"],
            "unexpected argument 'to' found; there is one FILE, and --dir".into(),
        ),
        (&["data", "2"], "it is not a number from 1 to 10000; it comes before FILE".into()),
        (&["2", "data", "-q", "x"], "unexpected argument 'x' found".into()),
        (&["2", "data", "--dir"], "a value is required for '--dir <DIR>'".into()),
        (&["2", "data", "--name"], "a value is required for '--name <TEMPLATE>'".into()),
        (&["2", ""], "a value is required for '<FILE>'".into()),
    ] {
        sandbox.run(args).refuses(2, &why);
    }
});

both!(options_that_there_are_not, |sandbox| {
    sandbox.file("data", b"contents");
    for option in ["--unknown", "-x", "--no-clobbered", "--quiet=yes", "-q=1"] {
        sandbox.run([option, "2", "data"]).refuses(2, "; see ");
    }
    sandbox.run(["--qiuet", "2", "data"]).refuses(2, "a similar argument exists: '--quiet'");
});

both!(the_last_of_an_option_given_twice_counts, |sandbox| {
    sandbox.file("data", b"contents");
    let run = sandbox.run(["-q", "-q", "--name={pid}", "--name={peer}", "2", "data"]);
    run.quietly().stores(&numbered(0..2), b"contents");
});

both!(help_that_cannot_be_printed_is_an_error, |sandbox| {
    let run = sandbox.with(["--help"]).in_shell(r#"exec "$@" > /dev/full"#).run();
    run.refuses(1, "cannot write to standard output: No space left on device");
});

both!(a_negative_number_is_wrong_for_the_option_that_it_is_given_to, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.run(["2", "data", "--timeout", "-1"]).refuses(2, "'-1' for '--timeout <SECONDS>'");
    if sandbox.is_sharedmem() {
        sandbox.run(["2", "data", "--blocks", "-1"]).refuses(2, "'-1' for '--blocks <COUNT>'");
    }
});

both!(the_ring_is_sharedmem_s_only, |sandbox| {
    sandbox.file("data", b"contents");
    let sizes =
        ["0", "-1", "", "x", "1.5K", "80 KiB", "1GiBB", "2G", "5000000000", "99999999999999999999"];
    for size in sizes {
        let option = format!("--block-size={size}");
        let why = match (sandbox.is_sharedmem(), size) {
            (false, _) => "only sharedmem has --block-size".into(),
            (true, "") => "'--block-size <SIZE>'".into(),
            (true, _) => {
                format!("invalid value '{size}' for '--block-size <SIZE>': it is not a size")
            }
        };
        sandbox.run([option.as_str(), "2", "data"]).refuses(2, &why);
    }
    for count in ["0", "-1", "x", "1K", "65537", "99999999999"] {
        let option = format!("--blocks={count}");
        let why = match sandbox.is_sharedmem() {
            false => "only sharedmem has --blocks".into(),
            true => format!("invalid value '{count}' for '--blocks <COUNT>': it is not a number"),
        };
        sandbox.run([option.as_str(), "2", "data"]).refuses(2, &why);
    }
});

both!(templates_that_give_no_name, |sandbox| {
    sandbox.file("data", b"contents");
    let not_a_name = "a file name is not empty";
    let lone = "a brace without its partner";
    for (option, value, why) in [
        ("--name", "", not_a_name),
        ("--name", ".", not_a_name),
        ("--name", "..", not_a_name),
        ("--name", "a/{pid}", not_a_name),
        ("--name", "/", not_a_name),
        ("--name", "{pid", lone),
        ("--name", "pid}", lone),
        ("--name", "{}", "unknown field {}"),
        ("--name", "{pdi}", "unknown field {pdi}: use {pid}, {peer} or {name}"),
        ("--dir", "", "a directory's path is not empty"),
        ("--dir", "{pid}", "unknown field {pid}: use {peer}"),
        ("--dir", "{name}", "unknown field {name}: use {peer}"),
        ("--dir", "{", lone),
        ("--file-name", "", "it is empty"),
        ("--file-name", "..", "it names a directory"),
        ("--file-name", "../data", "it contains a slash"),
    ] {
        sandbox.run([option, value, "2", "data"]).refuses(2, why);
    }
    let too_long = "x".repeat(256);
    sandbox.run(["--file-name", &too_long, "2", "data"]).refuses(2, "256 bytes long, 255");
});

both!(two_peers_with_one_path, |sandbox| {
    sandbox.file("data", b"contents");
    for args in [&["--name", "{name}"][..], &["--name", "x"], &["--dir", "d", "--name", "{{pid}}"]]
    {
        let args = [args, &["2", "data"]].concat();
        sandbox.run(args).refuses(2, "--dir and --name give all peers the same path");
    }
});

both!(a_line_break_in_an_argument_breaks_no_message, |sandbox| {
    sandbox.file("data", b"contents");
    for args in [["2\n3", "data"], ["--una\nware", "2"], ["--dir=a\n{b\nc}", "2"]] {
        sandbox.run(args).refuses(2, "; see ");
    }
});

both!(the_help_is_for_standard_output, |sandbox| {
    let usage = format!("Usage: {} [OPTIONS] <NUMBER_OF_PEERS> <FILE>\n", sandbox.program());
    for option in ["--help", "-h"] {
        let text = contains(usage.as_str()).and(contains("--dir <DIR>")).and(contains("{peer}"));
        if sandbox.is_sharedmem() {
            sandbox.run([option]).prints(text.and(contains("--blocks <COUNT>")));
        } else {
            sandbox.run([option]).prints(text.and(contains("--block").not()));
        }
    }
});

both!(the_help_fits_80_columns_and_names_every_option, |sandbox| {
    let is_narrow = |text: &str| text.lines().all(|line| line.chars().count() <= 80);
    let all = [
        "--dir",
        "--name",
        "--file-name",
        "--no-clobber",
        "--verify",
        "--manifest",
        "--sync",
        "--preserve",
        "--sparse",
        "--on-slow",
        "--timeout",
        "--progress",
        "--json",
        "--null",
        "--quiet",
        "--help",
        "--version",
    ];
    let has_all = move |text: &str| all.iter().all(|option| text.contains(option));
    for option in ["--help", "-h"] {
        let fits = predicates::function::function(is_narrow);
        sandbox.run([option]).prints(fits.and(predicates::function::function(has_all)));
    }
});

both!(the_long_help_has_examples_and_the_short_one_names_it, |sandbox| {
    let example = format!("zcat model.bin.gz | {} --file-name model.bin 8 -", sandbox.program());
    sandbox.run(["--help"]).prints(contains(example.as_str()).and(contains("Exit status:")));
    sandbox.run(["-h"]).prints(contains("see more with '--help'"));
});

both!(the_version_is_for_standard_output, |sandbox| {
    let version = format!("{} {}\n", sandbox.program(), env!("CARGO_PKG_VERSION"));
    for option in ["--version", "-V"] {
        sandbox.run([option]).prints(starts_with(version.as_str()).and(contains("\n").count(1)));
    }
});
