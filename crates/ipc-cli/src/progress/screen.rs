//! What stands on the terminal: messages, and below them lines that are drawn again and again.

use std::io;

use console::measure_text_width;
use rustix::process::Pid;
use rustix::termios::tcgetpgrp;

use super::bars;
use crate::environment;
use crate::message::{line, write};

/// Standard error, to the process that alone writes to it.
#[derive(Debug)]
pub(super) struct Screen {
    program: &'static str,
    /// The server's process group.
    group: Pid,
    /// What is drawn, and the cursor stands at its end.
    lines: Vec<String>,
}

impl Screen {
    /// Nothing is drawn yet; the server has this process group.
    pub(super) fn new(program: &'static str, group: Pid) -> Self {
        // It has a group of its own, which is never in the foreground, and some terminals stop those that
        // write from the background.
        environment::write_from_background();
        Self { program, group, lines: Vec::new() }
    }

    /// Draws these lines in place of those before.
    pub(super) fn draw(&mut self, lines: Vec<String>) {
        self.leave_to_others();
        if self.is_in_foreground() && lines != self.lines {
            write(&(self.erasure() + &lines.join("\n")));
            self.lines = lines;
        }
    }

    /// Writes a message above them.
    pub(super) fn say(&mut self, text: &str) {
        self.leave_to_others();
        write(&(self.erasure() + &line(self.program, text) + &self.lines.join("\n")));
    }

    /// Takes away what is drawn.
    pub(super) fn clear(mut self) {
        self.leave_to_others();
        write(&self.erasure());
    }

    /// What takes away the lines that are drawn.
    fn erasure(&self) -> String {
        // A window that has become narrower since has broken them.
        let (columns, _) = bars::size();
        let rows = |line: &String| measure_text_width(line).div_ceil(columns).max(1);
        match self.lines.iter().map(rows).sum() {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            rows @ 2.. => format!("\r\x1b[{}A\x1b[J", rows - 1),
        }
    }

    /// In the background, lets go of what has been drawn: others may have written below it since, and to
    /// draw or clear would go over that.
    fn leave_to_others(&mut self) {
        if !self.lines.is_empty() && !self.is_in_foreground() {
            self.lines.clear();
        }
    }

    /// Whether the terminal is the run's to draw on. One that runs in the background would draw into what
    /// others print.
    fn is_in_foreground(&self) -> bool {
        // Of a terminal that is not the one that controls it, nobody can say; then it is nobody else's
        // either.
        tcgetpgrp(io::stderr()).map_or(true, |foreground| foreground == self.group)
    }
}
