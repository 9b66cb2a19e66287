//! `--progress`: how far every peer has come, shown while the run goes on.
//!
//! A thread of its own draws, so that a terminal that takes nothing (Ctrl-S) holds up no copy. It is started
//! after the last fork, by the first event that tells of progress.

mod bars;
mod frame;
mod lines;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ipc_core::Event;

use self::bars::Bars;
use self::frame::Frame;
use self::lines::Lines;
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

/// Tells a person what happens while a run goes on.
#[derive(Debug)]
pub(crate) struct Display {
    program: &'static str,
    /// When the run began.
    began: Instant,
    style: Option<Style>,
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
        Self { program, began, style, painter: None }
    }

    /// Shows what has happened.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Waiting { peer, pid } => {
                let text = waiting(peer, pid);
                match &self.painter {
                    Some(painter) => painter.say(text),
                    None => message(self.program, &text),
                }
            }
            Event::Progress { peers, each } => {
                if self.painter.is_none()
                    && let Some(style) = self.style.take()
                {
                    self.painter = Painter::start(self.program, self.began, style);
                }
                if let Some(painter) = &self.painter {
                    painter.show(|| Frame::new(peers, each));
                }
            }
            _ => {}
        }
    }

    /// Takes away what is shown.
    pub(crate) fn end(self) {
        if let Some(painter) = self.painter {
            painter.end();
        }
    }
}

/// The thread that draws.
#[derive(Debug)]
struct Painter {
    words: Sender<Word>,
    /// Whether the last frame has not been drawn yet.
    is_behind: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the thread is told.
enum Word {
    Frame(Frame),
    /// A message, which stays.
    Message(String),
}

impl Painter {
    /// Without a thread there is nothing to see, which is no reason to fail.
    fn start(program: &'static str, began: Instant, style: Style) -> Option<Self> {
        let (words, received) = channel();
        let is_behind = Arc::new(AtomicBool::new(false));
        let drawn = Arc::clone(&is_behind);
        let draw = move || match style {
            Style::Bars => paint(&received, &drawn, began, Bars::new(program)),
            Style::Lines => paint(&received, &drawn, began, Lines::new(program)),
        };
        let thread = thread::Builder::new().name("progress".into()).spawn(draw).ok()?;
        Some(Self { words, is_behind, thread })
    }

    /// Shows a frame, unless the one before is still being drawn.
    fn show(&self, frame: impl FnOnce() -> Frame) {
        if !self.is_behind.swap(true, Ordering::Relaxed) {
            // A thread that is gone has nothing to show any more.
            let _ = self.words.send(Word::Frame(frame()));
        }
    }

    fn say(&self, text: String) {
        let _ = self.words.send(Word::Message(text));
    }

    fn end(self) {
        drop(self.words);
        let _ = self.thread.join();
    }
}

/// A way to show progress.
trait Canvas {
    /// Takes note of a frame, and draws it if it `is_due`.
    fn draw(&mut self, frame: &Frame, is_due: bool);

    /// Prints a message that stays.
    fn say(&mut self, text: &str);

    /// Takes everything away but the messages.
    fn clear(&mut self);
}

/// Draws until nobody has anything to say any more.
fn paint(words: &Receiver<Word>, is_behind: &AtomicBool, began: Instant, mut canvas: impl Canvas) {
    for word in words {
        match word {
            Word::Frame(frame) => {
                canvas.draw(&frame, began.elapsed() >= DELAY);
                is_behind.store(false, Ordering::Relaxed);
            }
            Word::Message(text) => canvas.say(&text),
        }
    }
    canvas.clear();
}
