//! `--progress`: how far every peer has come, shown while the run goes on.
//!
//! A process of its own writes to standard error (`painter.rs`), so that a terminal that takes nothing (Ctrl-S)
//! holds up no copy.

mod bars;
mod frame;
mod painter;
mod rate;
mod screen;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ipc_core::Event;

use self::frame::Frame;
use self::painter::Painter;
use self::rate::Rates;
use crate::message::{unfinished, waiting};

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
    rates: Rates,
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
        let rates = Rates::default();
        Self { program, began, style, rates, last_line: None, painter: None }
    }

    /// Shows what has happened.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Waiting { peer, pid } => self.painter().say(waiting(peer, pid)),
            Event::CleanUpUnfinished { pid } => self.painter().say(unfinished(pid)),
            Event::Progress { peers, each } => {
                if let Some(style) = self.style {
                    self.rates.look(peers, self.began.elapsed());
                    let rates = self.rates.each();
                    self.show(style, &Frame { peers, each, rates: &rates });
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, style: Style, frame: &Frame<'_>) {
        if self.began.elapsed() < DELAY {
            return;
        }
        match style {
            Style::Bars => {
                let (columns, rows) = bars::size();
                let lines = bars::lines(frame, columns, rows);
                self.painter().show(&lines);
            }
            Style::Lines if self.last_line.is_none_or(|last| last.elapsed() >= LINE) => {
                self.last_line = Some(Instant::now());
                self.painter().mention(frame.tell_all());
            }
            Style::Lines => {}
        }
    }

    /// What writes, which comes to be when there is something to write.
    fn painter(&mut self) -> &mut Painter {
        self.painter.get_or_insert_with(|| Painter::start(self.program))
    }

    /// Takes away what is shown, but for the messages.
    pub(crate) fn end(self) {
        if let Some(painter) = self.painter {
            painter.end();
        }
    }
}
