//! What README.md and docs/json.md show is what happens: their commands are run in their order, and print
//! what is printed there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use common::{skip, succeeds};
use predicates::Predicate;
use predicates::str::is_match;

/// Tools of the recipes that a system may do without.
const RARE_TOOLS: [&str; 2] = ["b3sum", "jq"];

#[test]
fn the_recipes_do_what_the_readme_says() {
    let examples = examples("Recipes");
    assert!(examples.len() > 10, "only {} commands are found", examples.len());
    run_all(&examples);
}

#[test]
fn the_examples_of_the_documentation_do_what_it_says() {
    let mut examples = parse("```console\n$ seq 1000000 > model.bin\n```\n");
    examples.extend(parse(include_str!("../../../docs/json.md")));
    run_all(&examples);
}

#[test]
fn the_first_example_does_what_the_readme_says() {
    let mut examples = examples("Try it");
    // How the program was built, and where it is, is cargo's to say here.
    examples.retain(|example| !example.command.starts_with("cargo "));
    for example in &mut examples {
        let command = example.command.strip_prefix("make build && ./");
        example.command = command.expect("the program is built first").to_owned();
    }
    assert_eq!(examples.len(), 1);
    run_all(&examples);
}

#[test]
fn the_examples_of_the_help_work() {
    for program in ["socket", "sharedmem"] {
        let directory = directory();
        let help = run(directory.path(), &format!("{program} --help"));
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        let (examples, _) = examples.split_once("Exit status:").unwrap();
        let commands: Vec<_> =
            examples.lines().filter_map(|line| line.strip_prefix("      ")).collect();
        assert!(commands.len() > 4, "{help}");
        run(directory.path(), "seq 1000000 > model.bin && gzip --keep model.bin");
        for command in commands.into_iter().filter(|command| is_possible(command)) {
            run(directory.path(), command);
        }
    }
}

#[test]
fn the_table_of_options_is_that_of_the_programs() {
    let readme = include_str!("../../../README.md");
    let commands = [ipc_cli::socket_command(), ipc_cli::sharedmem_command()];
    let mut options: Vec<_> = commands
        .iter()
        .flat_map(|command| command.get_arguments())
        .filter_map(|argument| argument.get_long())
        .map(|long| format!("--{long}"))
        .chain(["--help", "--version"].map(Into::into))
        .collect();
    options.sort();
    options.dedup();
    let rows = readme.lines().filter(|line| line.starts_with("| `-"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let words = cells.flat_map(|cell| cell.split(['`', ' ', ',', '|']));
    let mut documented: Vec<_> =
        words.filter(|word| word.starts_with("--")).map(str::to_owned).collect();
    documented.sort();
    documented.dedup();
    assert_eq!(documented, options);
}

#[test]
#[should_panic(expected = "README.md says")]
fn an_example_that_prints_something_else_is_found() {
    run_all(&parse("```console\n$ echo pid-12_a in 0.5 s\npid-7_a in 0.4 s\n```\n"));
}

#[test]
#[should_panic(expected = "exit status: 3")]
fn an_example_that_fails_is_found() {
    run_all(&parse("```console\n$ exit 3\n```\n"));
}

/// A command, and the lines that it prints.
#[derive(Debug)]
struct Example {
    command: String,
    output: Vec<String>,
}

/// The examples of one section of README.md.
fn examples(section: &str) -> Vec<Example> {
    let readme = include_str!("../../../README.md");
    let (_, text) = readme.split_once(&format!("\n## {section}\n")).unwrap();
    parse(text.split("\n## ").next().unwrap())
}

/// The examples in blocks of the kind `console`.
fn parse(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let (block, _) = block.split_once("\n```").expect("a block ends");
        let first = examples.len();
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                examples.push(Example { command: command.to_owned(), output: Vec::new() });
            } else {
                let example = examples[first..].last_mut().expect("a block begins with a command");
                example.output.push(line.to_owned());
            }
        }
    }
    examples
}

/// Runs the examples one after the other in one new directory.
fn run_all(examples: &[Example]) {
    let directory = directory();
    let licence = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../LICENSE-APACHE");
    std::fs::copy(licence, directory.path().join("LICENSE-APACHE")).unwrap();
    let possible = examples.iter().filter(|example| is_possible(&example.command));
    possible.for_each(|example| example.check(directory.path()));
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Whether the tools of a command are here.
fn is_possible(command: &str) -> bool {
    let words = || command.split_whitespace();
    let rare = RARE_TOOLS.iter().find(|&&tool| words().any(|word| word == tool));
    let missing = rare.filter(|tool| !succeeds(&[tool], "--version"));
    missing.inspect(|tool| skip(command, &format!("there is no {tool}"))).is_none()
}

/// What a command prints, which must succeed, on standard output and standard error.
fn run(directory: &Path, command: &str) -> String {
    // In one pipe, the lines of both keep their order.
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(directory)
        .env("PATH", path())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "$ {command}\n{printed}{}", output.status);
    printed
}

impl Example {
    fn check(&self, directory: &Path) {
        let printed = run(directory, &self.command);
        let (lines, expected): (Vec<_>, _) = (printed.lines().collect(), &self.output);
        let is_same = lines.len() == expected.len()
            && lines.iter().zip(expected).all(|(line, expected)| is_like(line, expected));
        let expected = expected.join("\n");
        assert!(is_same, "$ {}\n{printed}README.md says:\n{expected}", self.command);
    }
}

/// The directories of programs, those under test first.
fn path() -> OsString {
    let programs = assert_cmd::cargo::cargo_bin!("socket").parent().unwrap().to_owned();
    let others = env::var_os("PATH").unwrap();
    env::join_paths([programs].into_iter().chain(env::split_paths(&others))).unwrap()
}

/// Whether a line is as expected but for process ids, times and rates, and for a peer that a busy machine
/// made slow.
fn is_like(line: &str, expected: &str) -> bool {
    const TIME_AND_RATE: &str =
        r", in \d+\.\d{3} s \(\d+(\.\d+)? ([KMGT]i)?B/s in all\)(; slow and detached: .*)?";
    let summary = expected.strip_suffix(" in all)").and_then(|text| text.rsplit_once(", in "));
    let (text, end) = summary.map_or((expected, ""), |(text, _)| (text, TIME_AND_RATE));
    let mut pieces = text.split("pid");
    let mut pattern = escaped(pieces.next().unwrap());
    for piece in pieces {
        let (separator, rest) = piece.split_at(1);
        let after = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let number = if after.len() < rest.len() { r"\d+" } else { "" };
        pattern += &format!("pid{separator}{number}{}", escaped(after));
    }
    is_match(format!("^{pattern}{end}$")).unwrap().eval(line)
}

/// A pattern for just this text.
fn escaped(text: &str) -> String {
    let is_special = |character| r"\.+*?()|[]{}^$".contains(character);
    let escape = |character| is_special(character).then_some('\\').into_iter().chain([character]);
    text.chars().flat_map(escape).collect()
}
