//! A terminal that a program runs on: what a person would see there, and type.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::leftovers::await_any;
use super::running::Running;

/// A pseudoterminal and its screen.
pub(crate) struct Terminal {
    /// The side of whoever looks and types.
    keyboard: File,
    /// The program's side; kept, as the other one ends with it.
    line: OwnedFd,
    screen: RefCell<vt100::Parser>,
}

impl Terminal {
    /// A terminal of this size that shows nothing.
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = openpt(flags).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).unwrap();
        rustix::io::ioctl_fionbio(&keyboard, true).unwrap();
        let screen = RefCell::new(vt100::Parser::new(rows, columns, 1000));
        Self { keyboard: keyboard.into(), line, screen }
    }

    pub(super) fn stdio(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Types these characters.
    pub(crate) fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    /// What stands on the screen, row by row down to the last one that is not empty, once everything is read that has been written so far.
    pub(crate) fn screen(&self) -> Vec<String> {
        let mut screen = self.screen.borrow_mut();
        let mut bytes = [0; 4096];
        loop {
            match (&self.keyboard).read(&mut bytes) {
                Ok(read) => screen.process(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let columns = screen.screen().size().1;
        let rows = screen.screen().rows(0, columns);
        let mut rows: Vec<_> = rows.map(|row| row.trim_end().to_owned()).collect();
        rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1));
        rows
    }

    /// Waits until this holds of the screen, while the program runs; gives the screen then.
    pub(crate) fn await_screen(
        &self,
        running: &Running<'_>,
        holds: impl Fn(&[String]) -> bool,
    ) -> Vec<String> {
        let pidfd = rustix::process::pidfd_open(running.pid(), PidfdFlags::empty()).unwrap();
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            let mut fds =
                [PollFd::new(&self.keyboard, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            await_any(&mut fds, "anything on the terminal");
            assert!(fds[1].revents().is_empty(), "it ended with this on the terminal: {screen:#?}");
        }
    }

    /// Whether any character on the screen has a colour.
    pub(crate) fn has_colours(&self) -> bool {
        let parser = self.screen.borrow();
        let (rows, columns) = parser.screen().size();
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let cells = places.filter_map(|(row, column)| parser.screen().cell(row, column));
        cells.into_iter().any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Whether it shows where one types, and what one types, as at first.
    pub(crate) fn is_usable(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        let is_cooked = modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        is_cooked && !self.screen.borrow().screen().hide_cursor()
    }
}
