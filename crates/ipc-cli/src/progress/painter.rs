//! The process that writes to standard error while the run goes on.
//!
//! A terminal may take nothing for as long as its user likes, and the server must not wait for it. A thread
//! would do that too, but one that gets no memory takes its whole process along; this one harms nobody.
#![allow(unsafe_code, reason = "forks")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipc_core::io::{now, retry, wait_ready};
use ipc_core::process::{Child, Lifeline, fork};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::process::getpgrp;

use super::screen::Screen;
use crate::message::message;

/// How long the end of the run waits for a terminal that takes nothing, if there is only something to be taken
/// away from it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest text that is sent, in bytes: some hundred lines.
const MOST: usize = 32 * 1024;

/// What the first byte of a packet says of the text behind it.
const FRAME: u8 = b'F';
const MESSAGE: u8 = b'M';

/// What the process that writes answers when it has written a message.
const WRITTEN: &[u8] = b"w";

/// The server's side: what it has to say, and who writes it.
#[derive(Debug)]
pub(super) struct Painter {
    program: &'static str,
    /// `None` where there is no room for one more process.
    process: Option<Process>,
    /// Messages that are not known to have been written.
    messages: VecDeque<String>,
    /// How many of them, from the first on, the process has been sent.
    sent: usize,
}

/// The process that writes.
#[derive(Debug)]
struct Process {
    link: OwnedFd,
    child: Child,
}

/// What the server hears of it.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// It has written one more message.
    Written,
    /// It has ended.
    End,
    Nothing,
}

impl Painter {
    /// Forks the process. That there is no room for it is no reason to fail: then nothing is drawn, and messages
    /// are written here, as far as that takes no time.
    pub(super) fn start(program: &'static str) -> Self {
        let process = Process::start(program);
        Self { program, process, messages: VecDeque::new(), sent: 0 }
    }

    /// Shows these lines, instead of those before, unless it still draws those.
    pub(super) fn show(&mut self, lines: &[String]) {
        self.go_on();
        if let Some(process) = &self.process {
            let _ = process.send(FRAME, &lines.join("\n"));
        }
    }

    /// Writes a message, which stays.
    pub(super) fn say(&mut self, text: String) {
        self.messages.push_back(text);
        self.go_on();
    }

    /// Writes a message that is of no use later, unless there are others that have not been taken yet.
    pub(super) fn mention(&mut self, text: String) {
        self.go_on();
        if self.messages.is_empty() {
            self.say(text);
        }
    }

    /// Gets rid of messages, as many as are taken now.
    fn go_on(&mut self) {
        while self.listen(Some(Duration::ZERO)) == Heard::Written {}
        match &self.process {
            Some(process) => {
                while self.messages.get(self.sent).is_some_and(|text| process.send(MESSAGE, text)) {
                    self.sent += 1;
                }
            }
            None => {
                while let Some(text) = self.messages.pop_front_if(|_| is_ready()) {
                    message(self.program, &text);
                }
            }
        }
    }

    /// Hears of the process within this time, and forgets a message that it has written.
    fn listen(&mut self, within: Option<Duration>) -> Heard {
        let heard = self.process.as_ref().map_or(Heard::End, |process| process.listen(within));
        if heard == Heard::Written {
            self.messages.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        heard
    }

    /// Takes away what is drawn, if the terminal takes that, and waits until every message is written.
    pub(super) fn end(mut self) {
        self.go_on();
        if let Some(process) = &self.process {
            // Then it ends once it has written everything.
            let _ = rustix::net::shutdown(&process.link, Shutdown::Write);
        }
        while self.listen((self.sent == 0).then_some(PATIENCE)) == Heard::Written {}
        if let Some(Process { mut child, .. }) = self.process {
            child.kill();
            // There is nothing to be done about one that cannot be waited for.
            let _ = child.wait_until(now() + PATIENCE);
        }
        // What it has not written.
        self.messages.iter().for_each(|text| message(self.program, text));
    }
}

impl Process {
    fn start(program: &'static str) -> Option<Self> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (link, server) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).ok()?;
        let group = getpgrp();
        let paint = |entered: Result<(), ipc_core::Error>| match entered {
            Ok(()) => follow(&server, Screen::new(program, group)),
            Err(_) => 1,
        };
        let stderr = io::stderr();
        let keep = [server.as_fd(), stderr.as_fd()];
        // SAFETY: The painter uses its end of the link and standard error, which are kept for it.
        let child = unsafe { fork(Lifeline::DiesWithParent, &keep, paint) }.ok()?;
        Some(Self { link, child })
    }

    /// Sends a packet if there is room for it now.
    fn send(&self, kind: u8, text: &str) -> bool {
        let packet: Vec<u8> = [kind].into_iter().chain(text.bytes().take(MOST)).collect();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&self.link, &packet, flags).is_ok()
    }

    /// Hears of it within this time; `None` is any time.
    fn listen(&self, within: Option<Duration>) -> Heard {
        while let Ok(false) = wait_ready(&self.link, PollFlags::IN, within) {
            // Without a limit, that was a signal.
            if within.is_some() {
                return Heard::Nothing;
            }
        }
        match rustix::net::recv(&self.link, &mut [0; 1][..], RecvFlags::DONTWAIT) {
            Ok((1.., _)) => Heard::Written,
            Ok((0, _)) | Err(_) => Heard::End,
        }
    }
}

/// Whether standard error takes something now. Of a pipe, that is as much as a message is long.
fn is_ready() -> bool {
    wait_ready(io::stderr(), PollFlags::OUT, Some(Duration::ZERO)).unwrap_or(true)
}

/// Writes what the server sends, until it sends no more; gives the exit status.
fn follow(server: &OwnedFd, mut screen: Screen) -> u8 {
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
        match kind {
            MESSAGE => {
                screen.say(&text);
                // The server that does not hear it says it again, if need be.
                let _ =
                    rustix::net::send(server, WRITTEN, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            }
            _ => screen.draw(text.lines().map(str::to_owned).collect()),
        }
    }
    screen.clear();
    0
}
