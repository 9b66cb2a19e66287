//! A terminal that a program runs on: what a person would see there, and type.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::leftovers::state_of;
use super::running::Running;

/// A pseudoterminal and its screen, which a thread keeps up to date: a program would wait for a terminal
/// that nobody reads.
pub(crate) struct Terminal {
    /// The side of whoever looks and types.
    keyboard: File,
    /// The program's side; kept, as the other one ends with it.
    line: OwnedFd,
    view: Arc<View>,
}

/// What has been written to a terminal.
struct View {
    written: Mutex<Written>,
    changed: Condvar,
}

struct Written {
    screen: vt100::Parser,
    bytes: Vec<u8>,
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
        let screen = vt100::Parser::new(rows, columns, 1000);
        let written = Mutex::new(Written { screen, bytes: Vec::new() });
        let view = Arc::new(View { written, changed: Condvar::new() });
        let keyboard = File::from(keyboard);
        let (reader, watched) = (keyboard.try_clone().unwrap(), Arc::clone(&view));
        thread::spawn(move || watched.follow(reader));
        Self { keyboard, line, view }
    }

    pub(super) fn stdio(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Types these characters.
    pub(crate) fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    /// What stands on the screen now, row by row down to the last one that is not empty.
    pub(crate) fn screen(&self) -> Vec<String> {
        self.all_written().rows()
    }

    /// Whether this was ever written, whatever has become of it.
    pub(crate) fn has_shown(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.all_written().bytes).contains(text)
    }

    /// All that has been written so far.
    fn all_written(&self) -> MutexGuard<'_, Written> {
        // A command that no terminal knows comes behind it.
        let number = self.view.written.lock().unwrap().bytes.len();
        let mark = format!("\x1b]7777;{number}\x07");
        rustix::io::write(&self.line, mark.as_bytes()).unwrap();
        let written = self.view.written.lock().unwrap();
        let lacks_it = |written: &mut Written| {
            !written.bytes.windows(mark.len()).any(|bytes| bytes == mark.as_bytes())
        };
        self.view.changed.wait_while(written, lacks_it).unwrap()
    }

    /// Waits until this holds of the screen, while the program runs; gives the screen then.
    pub(crate) fn await_screen(
        &self,
        running: &Running<'_>,
        holds: impl Fn(&[String]) -> bool,
    ) -> Vec<String> {
        let mut written = self.view.written.lock().unwrap();
        loop {
            let rows = written.rows();
            if holds(&rows) {
                return rows;
            }
            let has_ended = matches!(state_of(running.pid()), None | Some('Z'));
            assert!(!has_ended, "it ended with this on the terminal: {rows:#?}");
            // That it ends changes nothing on the screen, so it is looked for now and then.
            let look = Duration::from_millis(100);
            written = self.view.changed.wait_timeout(written, look).unwrap().0;
        }
    }

    /// Whether any character on the screen has a colour.
    pub(crate) fn has_colours(&self) -> bool {
        let written = self.all_written();
        let screen = written.screen.screen();
        let (rows, columns) = screen.size();
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let mut cells = places.filter_map(|(row, column)| screen.cell(row, column));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Whether it shows where one types, and what one types, as at first.
    pub(crate) fn is_usable(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        let is_cooked = modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        is_cooked && !self.all_written().screen.screen().hide_cursor()
    }
}

impl View {
    /// Reads until the terminal is gone.
    fn follow(&self, mut keyboard: File) {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = keyboard.read(&mut bytes) {
            let mut written = self.written.lock().unwrap();
            written.screen.process(&bytes[..read]);
            written.bytes.extend_from_slice(&bytes[..read]);
            self.changed.notify_all();
        }
    }
}

impl Written {
    fn rows(&self) -> Vec<String> {
        let screen = self.screen.screen();
        let rows = screen.rows(0, screen.size().1);
        let mut rows: Vec<_> = rows.map(|row| row.trim_end().to_owned()).collect();
        rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1));
        rows
    }
}
