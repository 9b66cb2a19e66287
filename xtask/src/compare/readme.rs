//! The table as Markdown, and its place in README.md.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::cell::Cell;
use super::tool::Tool;
use crate::build;

const BEGIN: &str = "<!-- cargo xtask compare -->\n";
const END: &str = "<!-- end of cargo xtask compare -->\n";

/// The first two lines of a table with a column for each tool.
pub(crate) fn head(tools: &[Tool]) -> String {
    let titles = tools.iter().map(|tool| {
        let times = if tool.is_for_one() { " × n" } else { "" };
        format!("`{}`{times}", tool.name())
    });
    line("", titles) + &line("---", tools.iter().map(|_| "---".to_owned()))
}

/// A line of it.
pub(crate) fn row(title: &str, cells: &[Cell]) -> String {
    line(title, cells.iter().map(Cell::to_string))
}

fn line(first: &str, others: impl Iterator<Item = String>) -> String {
    let others: String = others.map(|cell| format!(" {cell} |")).collect();
    format!("| {first} |{others}\n")
}

/// What README.md has instead of this table (`-`), and lacks of it (`+`); nothing if it has it.
pub(crate) fn difference(table: &str) -> Result<String> {
    difference_from(&read()?, table)
}

fn difference_from(readme: &str, table: &str) -> Result<String> {
    let (_, there, _) = split(readme)?;
    if there == table {
        return Ok(String::new());
    }
    let lines = |sign, these: &str, others: &str| {
        let new = these.lines().filter(|line| others.lines().all(|other| other != *line));
        new.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let text = lines('-', there, table) + &lines('+', table, there);
    Ok(if text.is_empty() { "the order of lines\n".to_owned() } else { text })
}

/// Puts a table into README.md.
pub(crate) fn write(table: &str) -> Result<()> {
    let readme = read()?;
    let (before, _, after) = split(&readme)?;
    fs::write(path(), format!("{before}{table}{after}")).context("cannot write README.md")
}

/// What is before the table, the table, and what is after it.
fn split(readme: &str) -> Result<(&str, &str, &str)> {
    let begin = readme.find(BEGIN).map(|at| at + BEGIN.len());
    let place = begin.and_then(|begin| Some((begin, begin + readme[begin..].find(END)?)));
    let (begin, end) = place.with_context(|| format!("README.md has no {BEGIN}{END}"))?;
    Ok((&readme[..begin], &readme[begin..end], &readme[end..]))
}

fn read() -> Result<String> {
    fs::read_to_string(path()).context("cannot read README.md")
}

fn path() -> PathBuf {
    build::workspace().join("README.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme(table: &str) -> String {
        format!("before\n{BEGIN}{table}{END}after\n")
    }

    #[test]
    fn only_lines_that_differ_are_shown() {
        let there = readme("| a |\n| b |\n");
        assert_eq!(difference_from(&there, "| a |\n| b |\n").unwrap(), "");
        assert_eq!(difference_from(&there, "| a |\n| c |\n").unwrap(), "- | b |\n+ | c |\n");
        assert_eq!(difference_from(&there, "| b |\n| a |\n").unwrap(), "the order of lines\n");
    }

    #[test]
    fn a_readme_without_a_place_for_the_table_is_refused() {
        assert!(difference_from("| a |\n", "| a |\n").is_err());
        assert!(difference_from(&format!("{END}{BEGIN}"), "").is_err());
    }
}
