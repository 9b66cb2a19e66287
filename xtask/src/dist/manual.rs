//! The manual pages: what clap knows of a program, and what it does not.

use std::iter::once;

use anyhow::{Context, Result};
use clap_mangen::Man;

use super::release::Release;
use crate::build::Program;

/// What stands in a page behind the options.
const SECTIONS: &str = include_str!("sections.roff");

/// Most characters in a line of roff, for those who read it as it is.
const WIDTH: usize = 80;

/// The page of one program, as roff.
pub(crate) fn page(program: Program, release: &Release) -> Result<String> {
    let mut command = super::command(program);
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").context("clap gives no usage")?;
    let headings = command.get_arguments().filter_map(|arg| arg.get_help_heading());
    let headings: Vec<_> = headings.map(str::to_owned).collect();
    let man = Man::new(command.override_usage(usage.to_owned()))
        .title(program.name().to_uppercase())
        .date(release.date()?)
        .source(Release::name())
        .manual("User Commands");
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    man.render_options_section(&mut roff)?;
    let mut roff = String::from_utf8(roff).context("a manual page is no UTF-8")?;
    for heading in headings {
        // Groups of options are sections to clap_mangen, as OPTIONS is.
        for quote in ["\"", ""] {
            let section = format!("\n.SH {quote}{}{quote}\n", heading.to_uppercase());
            roff = roff.replace(&section, &format!("\n.SS {quote}{heading}{quote}\n"));
        }
    }
    Ok(tidy(&(roff + &sections(program))))
}

fn sections(program: Program) -> String {
    let (other, files, overview) = match program {
        Program::Socket => (Program::SharedMemory, "", ".BR socket (2),\n.BR unix (7)"),
        Program::SharedMemory => (
            Program::Socket,
            ".TP\n.I /dev/shm\nHas room for the ring of blocks; no name stays in it while data flows.\n",
            ".BR sem_overview (7),\n.BR shm_overview (7)",
        ),
    };
    SECTIONS
        .replace("@PROGRAM@", program.name())
        .replace("@OTHER@", other.name())
        .replace("@FILES@\n", files)
        .replace("@OVERVIEW@", overview)
}

/// The same page without what `mandoc -T lint` finds in it: clap_mangen's lines are as long as the help,
/// with blank ones for paragraphs, and it defines the same string in each section.
fn tidy(roff: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let (mut preambles, mut is_heading, mut is_example) = (0, false, false);
    for line in roff.lines() {
        let last = lines.last().map(String::as_str);
        if line.starts_with(".ie ") {
            preambles += 1;
        }
        let is_again = preambles > 1 && (line.starts_with(".ie ") || line.starts_with(".el "));
        match line {
            _ if is_again => continue,
            "" if last == Some(".br") => {
                lines.pop();
                lines.push(".sp".into());
            }
            "" => lines.push(".sp".into()),
            ".br" if last == Some(".sp") => continue,
            _ if is_heading || is_example || line.starts_with('.') => lines.push(line.into()),
            _ => lines.extend(wrap(line)),
        }
        // What stands behind .TP is one line, however long.
        is_heading = line == ".TP";
        is_example = line == ".EX" || is_example && line != ".EE";
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Lines of words; none begins with what roff would take for a request.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let is_full = line.chars().count() + 1 + word.chars().count() > WIDTH;
        if is_full && !line.is_empty() && !word.starts_with(['.', '\'']) {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.into_iter().chain(once(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_between_words_and_never_before_a_dot() {
        let word = "a".repeat(39);
        assert_eq!(wrap(&format!("{word} {word}")), [format!("{word} {word}")]);
        assert_eq!(wrap(&format!("{word} {word} b")), [format!("{word} {word}"), "b".into()]);
        assert_eq!(wrap(&format!("{word} {word} .b")), [format!("{word} {word} .b")]);
        assert_eq!(wrap(&"a".repeat(90)), ["a".repeat(90)]);
    }

    #[test]
    fn blank_lines_become_space_and_examples_stay() {
        let long = "a ".repeat(60);
        let example = format!(".EX\n{long}\n.EE\n");
        assert_eq!(tidy(&example), example);
        assert_eq!(tidy("one\n\ntwo\n.br\n\n.br\nthree\n"), "one\n.sp\ntwo\n.sp\nthree\n");
        assert_eq!(tidy(".ie a\n.el b\n.SH C\n.ie a\n.el b\n"), ".ie a\n.el b\n.SH C\n");
    }
}
