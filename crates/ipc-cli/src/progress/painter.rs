//! The process that writes to standard error while the run goes on.
//!
//! A terminal may take nothing for as long as its user likes, and the server must not wait for it. A thread
//! would do that too, but one that gets no memory takes its whole process along; this one harms nobody.
#![allow(unsafe_code, reason = "forks")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_core::io::{now, retry};
use ipc_core::process::{Child, Lifeline, fork};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, getpgrp};
use rustix::termios::tcgetpgrp;

use crate::environment;
use crate::message::message;

/// How long the end of the run waits for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest text that is sent, in bytes: some hundred lines.
const MOST: usize = 32 * 1024;

/// What the first byte of a packet says of the text behind it.
const FRAME: u8 = b'F';
const MESSAGE: u8 = b'M';

/// The server's side of the process that draws.
#[derive(Debug)]
pub(super) struct Painter {
    program: &'static str,
    link: OwnedFd,
    child: Child,
    /// Messages that it could not take so far.
    unsaid: VecDeque<String>,
}

impl Painter {
    /// Forks it. That there is no more room for processes is no reason to fail: then nothing is drawn.
    pub(super) fn start(program: &'static str) -> Option<Self> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (link, server) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).ok()?;
        let group = getpgrp();
        let paint = |entered: Result<(), ipc_core::Error>| match entered {
            Ok(()) => Screen::new(program, group).follow(&server),
            Err(_) => 1,
        };
        let stderr = io::stderr();
        let keep = [server.as_fd(), stderr.as_fd()];
        // SAFETY: The painter uses its end of the link and standard error, which are kept for it.
        let child = unsafe { fork(Lifeline::DiesWithParent, &keep, paint) }.ok()?;
        Some(Self { program, link, child, unsaid: VecDeque::new() })
    }

    /// Shows these lines, instead of those before, unless it still draws those.
    pub(super) fn show(&mut self, lines: &[String]) {
        self.say_unsaid();
        let _ = self.send(FRAME, &lines.join("\n"));
    }

    /// Prints a message, which stays.
    pub(super) fn say(&mut self, text: String) {
        self.unsaid.push_back(text);
        self.say_unsaid();
    }

    fn say_unsaid(&mut self) {
        while self.unsaid.front().is_some_and(|text| self.send(MESSAGE, text)) {
            self.unsaid.pop_front();
        }
    }

    /// Sends a packet if there is room for it now.
    fn send(&self, kind: u8, text: &str) -> bool {
        let packet: Vec<u8> = [kind].into_iter().chain(text.bytes().take(MOST)).collect();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&self.link, &packet, flags).is_ok()
    }

    /// Takes away what is drawn, and waits for that, if the terminal takes it.
    pub(super) fn end(mut self) {
        self.say_unsaid();
        drop(self.link);
        if !matches!(self.child.wait_until(now() + PATIENCE), Ok(Some(_))) {
            self.child.kill();
            // There is nothing to be done about one that cannot be waited for.
            let _ = self.child.wait_until(now() + PATIENCE);
        }
        self.unsaid.iter().for_each(|text| message(self.program, text));
    }
}

/// The painter's own side: what stands on the terminal.
struct Screen {
    program: &'static str,
    /// The server's process group.
    group: Pid,
    /// All lines at once, so that each frame is drawn as a whole.
    frame: ProgressBar,
    is_shown: bool,
}

impl Screen {
    fn new(program: &'static str, group: Pid) -> Self {
        // It has a group of its own, which is never in the foreground, and some terminals stop those that
        // write from the background.
        environment::write_from_background();
        let frame = ProgressBar::hidden();
        // The template is right; if it were not, there would be a bar instead.
        if let Ok(lines) = ProgressStyle::with_template("{msg}") {
            frame.set_style(lines);
        }
        Self { program, group, frame, is_shown: false }
    }

    /// Draws until the server is done; gives the exit status.
    fn follow(mut self, server: &OwnedFd) -> u8 {
        let mut packet = vec![0; 1 + MOST];
        let mut receive = || {
            let received = retry(server, PollFlags::IN, || {
                rustix::net::recv(server, &mut packet[..], RecvFlags::empty())
            });
            let (length, _) = received.ok()?;
            let (&kind, text) = packet.get(..length)?.split_first()?;
            Some((kind, String::from_utf8_lossy(text).into_owned()))
        };
        while let Some((kind, text)) = receive() {
            self.leave_to_others();
            match kind {
                MESSAGE => self.frame.suspend(|| message(self.program, &text)),
                _ => self.draw(text),
            }
        }
        self.leave_to_others();
        self.frame.finish_and_clear();
        0
    }

    /// In the background, lets go of what has been drawn: others may have written below it since, and to
    /// draw or clear would go over that.
    fn leave_to_others(&mut self) {
        if self.is_shown && !self.is_in_foreground() {
            self.frame.set_draw_target(ProgressDrawTarget::hidden());
            self.is_shown = false;
        }
    }

    fn draw(&mut self, lines: String) {
        if !self.is_in_foreground() {
            return;
        }
        if !self.is_shown {
            self.frame.set_draw_target(ProgressDrawTarget::stderr());
            self.is_shown = true;
        }
        self.frame.set_message(lines);
    }

    /// Whether the terminal is the run's to draw on. One that runs in the background would draw into what
    /// others print.
    fn is_in_foreground(&self) -> bool {
        // Of a terminal that is not the one that controls it, nobody can say; then it is nobody else's
        // either.
        tcgetpgrp(io::stderr()).map_or(true, |foreground| foreground == self.group)
    }
}
