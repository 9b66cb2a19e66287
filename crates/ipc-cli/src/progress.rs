//! `--progress`: how far every peer has come, shown while the run goes on.
//!
//! A process of its own writes to standard error (`painter.rs`), so that a terminal that takes nothing (Ctrl-S)
//! holds up no copy.

mod bars;
mod frame;
mod painter;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::ProgressBar;
use ipc_core::Event;

use self::frame::Frame;
use self::painter::Painter;
use crate::message::{message, waiting};

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless --quiet is given
    Auto,
    /// Everywhere; as a line each second where bars cannot be drawn
    Always,
    /// Never
    Never,
}

/// No run that is over so soon shows any.
const DELAY: Duration = Duration::from_millis(500);

/// How often there is a line where there are no bars.
const LINE: Duration = Duration::from_secs(1);

/// Tells a person what happens while a run goes on.
#[derive(Debug)]
pub(crate) struct Display {
    program: &'static str,
    /// When the run began.
    began: Instant,
    /// How progress is shown, if it is.
    style: Option<Style>,
    /// Never drawn; it knows the rate.
    total: ProgressBar,
    /// When the last line was written.
    last_line: Option<Instant>,
    painter: Option<Painter>,
}

/// How progress can be shown.
#[derive(Debug, Clone, Copy)]
enum Style {
    Bars,
    Lines,
}

impl Display {
    /// A display for a run that began at this time; `is_quiet` if its user wants to hear little.
    pub(crate) fn new(program: &'static str, began: Instant, when: When, is_quiet: bool) -> Self {
        let can_draw = io::stderr().is_terminal()
            && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        let style = match when {
            When::Auto => (can_draw && !is_quiet).then_some(Style::Bars),
            When::Always if can_draw => Some(Style::Bars),
            When::Always => Some(Style::Lines),
            When::Never => None,
        };
        let total = ProgressBar::hidden();
        Self { program, began, style, total, last_line: None, painter: None }
    }

    /// Shows what has happened.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Waiting { peer, pid } => self.say(waiting(peer, pid)),
            Event::Progress { peers, each } => {
                if let Some(style) = self.style {
                    self.show(style, &Frame { peers, each });
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, style: Style, frame: &Frame<'_>) {
        self.total.set_position(frame.done_by_all());
        if self.began.elapsed() < DELAY {
            return;
        }
        let rate = self.total.per_sec();
        match style {
            Style::Bars => {
                let (columns, rows) = bars::size();
                let lines = bars::lines(frame, rate, columns, rows);
                if let Some(painter) = self.painter() {
                    painter.show(&lines);
                }
            }
            Style::Lines if self.last_line.is_none_or(|last| last.elapsed() >= LINE) => {
                self.last_line = Some(Instant::now());
                self.say(frame.tell_all(rate));
            }
            Style::Lines => {}
        }
    }

    fn say(&mut self, text: String) {
        match self.painter() {
            Some(painter) => painter.say(text),
            None => message(self.program, &text),
        }
    }

    /// The process that draws, which comes to be when there is something to draw.
    fn painter(&mut self) -> Option<&mut Painter> {
        if self.painter.is_none() {
            self.painter = Painter::start(self.program);
        }
        self.painter.as_mut()
    }

    /// Takes away what is shown, but for the messages.
    pub(crate) fn end(self) {
        if let Some(painter) = self.painter {
            painter.end();
        }
    }
}
