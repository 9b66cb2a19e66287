//! `--progress`: what a person sees on a terminal while a run goes on, and what a log gets.
//!
//! A FIFO as source makes a run last as long as a test wants to look at it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::fuse::{Fault, Fuse, Op};
use common::leftovers::{await_any, state_of};
use common::paths::{numbered, paths_of};
use common::paused::{Fifo, resume, stop, stop_midway};
use common::running::Running;
use common::terminal::Terminal;
use common::{BEYOND_ALL_BUFFERS, Sandbox, both, contents};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

const SIZE: usize = 2 * BEYOND_ALL_BUFFERS;
const KIND: &str = "xterm-256color";

/// A run on a terminal that has been fed the first half of its source.
struct Shown<'s> {
    terminal: Terminal,
    running: Running<'s>,
    fifo: Fifo,
}

impl<'s> Shown<'s> {
    fn halfway(
        sandbox: &'s Sandbox,
        terminal: Terminal,
        kind: &'static str,
        args: &[&str],
    ) -> Self {
        sandbox.directory("received-files");
        let mut fifo = Fifo::new(sandbox, "fifo");
        let args = [&["--name={peer}"], args, &["fifo"]].concat();
        let running = sandbox.with(args).on_terminal(&terminal, kind).start();
        fifo.feed(&running, contents(SIZE / 2));
        Self { terminal, running, fifo }
    }

    fn await_line(&self, has: impl Fn(&str) -> bool) -> Vec<String> {
        self.terminal.await_screen(&self.running, |screen| screen.iter().any(|line| has(line)))
    }

    /// Feeds the rest; the screen when all is over.
    fn go_on(mut self, peers: usize) -> Vec<String> {
        self.fifo.feed(&self.running, &contents(SIZE)[SIZE / 2..]);
        drop(self.fifo);
        self.running.finish().quietly().stores(&numbered(0..peers), contents(SIZE));
        assert!(self.terminal.is_usable());
        self.terminal.screen()
    }
}

/// Whether the screen is what the paths and the summary leave on it, and nothing else.
fn is_clean(screen: &[String], peers: usize) -> bool {
    let (summary, paths) = screen.split_last().unwrap();
    let expected: Vec<_> = (0..peers).map(|peer| format!("received-files/{peer}")).collect();
    paths == expected && summary.contains(&format!("{peers} of {peers} peers stored"))
}

both!(every_peer_has_a_bar_which_is_gone_at_the_end, |sandbox| {
    let shown = Shown::halfway(sandbox, Terminal::new(100, 40), KIND, &["3"]);
    let screen = shown.await_line(|line| line.starts_with("total") && line.contains("MiB"));
    let begins: Vec<_> = screen.iter().map(|line| &line[..6]).collect();
    assert_eq!(begins, ["peer 0", "peer 1", "peer 2", "total "], "{screen:#?}");
    let screen = shown.go_on(3);
    assert!(is_clean(&screen, 3), "{screen:#?}");
});

both!(of_many_peers_only_the_slowest_have_bars, |sandbox| {
    let shown = Shown::halfway(sandbox, Terminal::new(100, 40), KIND, &["25"]);
    let screen = shown.await_line(|line| line.starts_with("total"));
    assert!(screen[0].starts_with("25 peers"), "{screen:#?}");
    let bars = screen.iter().filter(|line| line.starts_with("peer ")).count();
    assert_eq!((bars, screen.len()), (4, 6), "{screen:#?}");
    let screen = shown.go_on(25);
    assert!(is_clean(&screen, 25), "{screen:#?}");
});

both!(a_narrow_or_low_window_is_no_less_tidy, |sandbox| {
    for (columns, rows, lines) in [(30, 24, 4), (20, 10, 4), (80, 4, 3), (80, 3, 2)] {
        let shown = Shown::halfway(
            sandbox,
            Terminal::new(columns, rows),
            KIND,
            &["3", "-q", "--progress=always"],
        );
        let screen = shown.await_line(|line| line.starts_with("total"));
        assert_eq!(screen.len(), lines, "{columns} x {rows}: {screen:#?}");
        shown.go_on(3);
        std::fs::remove_file(sandbox.path("fifo")).unwrap();
        std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
    }
});

both!(a_peer_that_has_failed_shows, |sandbox| {
    let shown = Shown::halfway(sandbox, Terminal::new(100, 40), KIND, &["2"]);
    shown.await_line(|line| line.starts_with("total"));
    kill_process(shown.running.children()[1], Signal::KILL).unwrap();
    shown.await_line(|line| line.starts_with("peer 1") && line.ends_with("failed"));
    assert!(shown.terminal.has_colours());
    let Shown { mut fifo, running, terminal } = shown;
    fifo.feed(&running, &contents(SIZE)[SIZE / 2..]);
    drop(fifo);
    let run = running.finish().quietly();
    assert!(!run.is_success());
    let screen = terminal.screen().join("\n");
    assert!(screen.contains("peer 1 (pid "), "{screen}");
});

both!(no_color_is_heeded, |sandbox| {
    sandbox.directory("received-files");
    let terminal = Terminal::new(100, 40);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let invocation = sandbox.with(["2", "fifo"]).through(&["env", "NO_COLOR=1"]);
    let running = invocation.on_terminal(&terminal, KIND).start();
    fifo.feed(&running, contents(SIZE));
    kill_process(running.children()[1], Signal::KILL).unwrap();
    terminal.await_screen(&running, |screen| screen.iter().any(|line| line.ends_with("failed")));
    assert!(!terminal.has_colours());
    drop(fifo);
    assert!(!running.finish().quietly().is_success());
});

/// A file's peer 1 of three, stopped, on a terminal.
fn stopped<'s>(sandbox: &'s Sandbox, terminal: &Terminal, args: &[&str]) -> (Running<'s>, Pid) {
    sandbox.file("data", contents(32 << 20));
    sandbox.directory("received-files");
    let args = [&["--name={peer}"], args, &["3", "data"]].concat();
    let invocation = || sandbox.with(&args).on_terminal(terminal, KIND);
    let (running, peers) = stop_midway(3, &[1], 0..20 << 20, invocation);
    (running, peers[1])
}

both!(a_peer_that_is_waited_for_shows, |sandbox| {
    let terminal = Terminal::new(100, 40);
    let (running, slow) = stopped(sandbox, &terminal, &["--on-slow=wait"]);
    let waiting = format!("s for pid {}", slow.as_raw_pid());
    let is_shown = |line: &String| line.starts_with("peer 1 [") && line.contains(&waiting);
    let screen = terminal.await_screen(&running, |screen| screen.iter().any(is_shown));
    assert!(screen.iter().any(|line| line.contains("%")), "{screen:#?}");

    // The message, which stays, is printed above the bars.
    let told = format!("waiting for peer 1 (pid {})", slow.as_raw_pid());
    let is_told = |screen: &[String]| {
        let first = screen.iter().position(|line| line.contains(&told));
        let bar = screen.iter().position(|line| line.starts_with("total"));
        first.is_some_and(|first| bar.is_some_and(|bar| first < bar))
    };
    terminal.await_screen(&running, is_told);
    resume(slow);
    running.finish().quietly().stores(&numbered(0..3), contents(32 << 20));
    let screen = terminal.screen();
    assert!(screen.iter().any(|line| line.contains(&told)), "{screen:#?}");
    assert!(!screen.iter().any(|line| line.starts_with("peer ")), "{screen:#?}");
});

both!(a_terminal_that_takes_nothing_holds_up_no_copy, |sandbox| {
    let shown = Shown::halfway(sandbox, Terminal::new(100, 40), KIND, &["2"]);
    shown.await_line(|line| line.starts_with("total"));
    shown.terminal.press("\x13");
    let Shown { mut fifo, running, terminal } = shown;
    fifo.feed(&running, &contents(SIZE)[SIZE / 2..]);
    drop(fifo);
    common::paused::await_files(
        &running,
        &sandbox.path("received-files"),
        &[sandbox.path("received-files/0"), sandbox.path("received-files/1")],
    );
    terminal.press("\x11");
    running.finish().quietly().stores(&numbered(0..2), contents(SIZE));
    let screen = terminal.screen();
    assert!(is_clean(&screen, 2), "{screen:#?}");
});

both!(a_terminal_that_takes_nothing_holds_up_no_report, |sandbox| {
    sandbox.directory("received-files");
    let terminal = Terminal::new(100, 40);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let args = ["--verify", "--manifest=B3SUMS", "--name={peer}", "2", "fifo"];
    let invocation = sandbox.with(args).in_shell(r#"exec "$@" > list"#);
    let running = invocation.on_terminal(&terminal, KIND).start();
    fifo.feed(&running, contents(SIZE));
    terminal.await_screen(&running, |screen| screen.iter().any(|line| line.starts_with("total")));
    terminal.press("\x13");
    drop(fifo);
    let list = "received-files/0\nreceived-files/1\n";
    let is_there = || std::fs::read_to_string(sandbox.path("list")).is_ok_and(|said| said == list);
    while !is_there() {
        assert_ne!(state_of(running.pid()), Some('Z'), "it ended without a list");
        std::thread::yield_now();
    }
    assert!(sandbox.path("B3SUMS").exists());
    terminal.press("\x11");
    let run = running.finish().quietly().leaving_also("B3SUMS").leaving_also("list");
    run.stores(&numbered(0..2), contents(SIZE));
});

both!(a_terminal_that_takes_no_message_holds_up_no_copy, |sandbox| {
    let terminal = Terminal::new(100, 40);
    let (running, slow) = stopped(sandbox, &terminal, &["--progress=never", "--timeout=6"]);
    terminal.press("\x13");
    let pidfd = pidfd_open(slow, PidfdFlags::empty()).unwrap();
    await_any(&mut [PollFd::new(&pidfd, PollFlags::IN)], "the end of a peer that is overdue");
    terminal.press("\x11");
    let run = running.finish().quietly();
    assert!(!run.is_success());
    let said = terminal.screen().join("\n");
    assert!(said.contains("it was killed, because it did nothing for 6s"), "{said}");
    assert!(said.contains(&format!("waiting for peer 1 (pid {})", slow.as_raw_pid())), "{said}");
});

both!(no_room_for_another_process_is_no_reason_to_fail, |sandbox| {
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    // The guard of the semaphore's name is forked too, and the painter last.
    let forks = 2 + usize::from(sandbox.is_sharedmem());
    let inject = format!("inject=clone,clone3:error=EAGAIN:when={}+", forks + 1);
    let args = ["--progress=always", "--name={peer}", "2", "fifo"];
    let Some(invocation) = sandbox.with(args).tampered(&["-e", &inject]) else { return };
    let running = invocation.start();
    fifo.feed(&running, contents(SIZE));
    running.await_said("2 peers");
    drop(fifo);
    let run = running.finish();
    assert!(run.is_success());
});

both!(an_interrupt_leaves_the_terminal_as_it_was, |sandbox| {
    let shown = Shown::halfway(sandbox, Terminal::new(100, 40), KIND, &["2"]);
    shown.await_line(|line| line.starts_with("total"));
    let Shown { running, terminal, .. } = shown;
    let type_it = |_: Pid, _: Signal| terminal.press("\x03");
    running.die_of(Signal::INT, type_it).leaves_nothing();
    assert!(terminal.is_usable());
});

both!(a_run_in_the_background_draws_nothing, |sandbox| {
    sandbox.directory("received-files");
    let terminal = Terminal::new(100, 40);
    let mut fifo = Fifo::new(sandbox, "fifo");
    // An interactive shell gives each job a process group of its own.
    let script = r#"set -m; "$@" & echo begun; read line; wait $!"#;
    let args = ["--name={peer}", "--timeout=1", "--on-slow=wait", "2", "fifo"];
    let running = sandbox.with(args).in_shell(script).on_terminal(&terminal, KIND).start();
    terminal.await_screen(&running, |screen| screen.iter().any(|line| line == "begun"));
    fifo.feed(&running, contents(SIZE));
    // A message is the sign that there has been time enough for bars.
    let program = running.children()[0];
    let peers =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.as_raw_pid()));
    let slow = peers.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    stop(&[Pid::from_raw(slow).unwrap()]);
    drop(fifo);
    terminal.press("\n");
    let run = running.finish().quietly();
    assert!(!run.is_success());
    let screen = terminal.screen().join("\n");
    assert!(screen.contains("it was killed, because it did nothing for 1s"), "{screen}");
    assert!(!terminal.has_shown("total"), "{screen}");
});

both!(what_is_drawn_is_left_alone_once_the_run_is_in_the_background, |sandbox| {
    sandbox.directory("received-files");
    let terminal = Terminal::new(100, 40);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let script = r#"set -m; "$@"; bg; echo one; echo two; echo three; wait"#;
    let invocation =
        sandbox.with(["--name={peer}", "2", "fifo"]).through(&["bash", "-c", script, "bash"]);
    let running = invocation.on_terminal(&terminal, KIND).start();
    fifo.feed(&running, contents(SIZE));
    terminal.await_screen(&running, |screen| screen.iter().any(|line| line.starts_with("total")));
    terminal.press("\x1a");
    terminal.await_screen(&running, |screen| screen.iter().any(|line| line == "three"));
    drop(fifo);
    running.finish().quietly().stores(&numbered(0..2), contents(SIZE));
    let screen = terminal.screen();
    for line in ["one", "two", "three", "received-files/0", "received-files/1"] {
        assert!(screen.iter().any(|shown| shown == line), "{line} is gone: {screen:#?}");
    }
});

both!(nothing_is_drawn_unless_it_is_for_a_person, |sandbox| {
    let contents = contents(SIZE);
    for (kind, args) in [
        ("dumb", &["--name={peer}"][..]),
        ("", &["--name={peer}"]),
        (KIND, &["--name={peer}", "--progress=never"]),
        (KIND, &["--name={peer}", "--quiet"]),
    ] {
        let terminal = Terminal::new(100, 40);
        let (running, slow) = {
            sandbox.file("data", contents);
            sandbox.directory("received-files");
            let args = [args, &["--on-slow=wait", "3", "data"]].concat();
            let invocation = || sandbox.with(&args).on_terminal(&terminal, kind);
            let (running, peers) = stop_midway(3, &[1], 0..SIZE, invocation);
            (running, peers[1])
        };
        terminal.await_screen(&running, |screen| screen.concat().contains("waiting for peer 1"));
        assert!(!terminal.has_shown("total"), "{kind} {args:?}");
        resume(slow);
        running.finish().quietly().stores(&numbered(0..3), contents);
    }
});

both!(a_log_gets_lines, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.directory("received-files");
    let args = ["--progress=always", "--on-slow=wait", "--name={peer}", "3", "data"];
    let (running, peers) = stop_midway(3, &[1], 0..SIZE, || sandbox.with(args));
    let pid = peers[1].as_raw_pid();
    running.await_said_that(&format!("at least two lines on peer 1, process {pid}"), |said| {
        said.matches(&format!(" s for pid {pid}")).count() >= 2
    });
    resume(peers[1]);
    let run = running.finish();
    let said = run.stderr();
    assert!(!said.contains('\x1b') && !said.contains('\r'), "{said:?}");
    let program = sandbox.program();
    let is_progress = |line: &&str| line.contains("3 peers") && line.contains("%, ");
    let lines: Vec<_> = said.lines().filter(is_progress).collect();
    assert!(lines.len() > 1, "{said}");
    assert!(lines.iter().all(|line| line.starts_with(&format!("{program}: "))), "{said}");
});

/// What the disk of peer 1 does in a second.
const SLOW: u64 = 3 << 20;

const ON_A_SLOW_DISK: [&str; 5] =
    ["--progress=always", "--dir=to-{peer}", "--name=copy", "3", "data"];

/// Whether this tells that all but one peer have their copies, and how long that takes.
fn tells_time_left(said: &str) -> Option<u64> {
    let seconds = said.split_once(" s left")?.0.rsplit(' ').next()?;
    seconds.parse().ok()
}

/// Checks the seconds that are said to be left, right after they were said, against what that disk has to do.
fn assert_right(seconds: u64, disk: &Fuse) {
    let left = (SIZE as u64).saturating_sub(disk.all_written()) / SLOW;
    // On a busy machine it may have been slower than it must be, and so be thought to be.
    assert!((left / 2..=3 * left + 3).contains(&seconds), "{seconds} s for {left} s");
}

both!(the_time_left_is_what_the_slowest_disk_needs, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let faults = [Fault::Slow(Op::Write, SLOW)];
    let Some(disk) = Fuse::mount(sandbox, "to-1", &faults) else { return };
    let paths = paths_of(0..3, |peer| format!("to-{peer}/copy"));

    let terminal = Terminal::new(120, 40);
    let running = sandbox.with(ON_A_SLOW_DISK).on_terminal(&terminal, KIND).start();
    let has_left_one = |screen: &[String]| {
        let stored = screen.iter().filter(|line| line.ends_with(" stored")).count();
        stored == 2 && tells_time_left(screen.last().unwrap()).is_some()
    };
    let screen = terminal.await_screen(&running, has_left_one);
    assert_right(tells_time_left(screen.last().unwrap()).unwrap(), &disk);
    running.finish().quietly().stores(&paths, contents(SIZE));
});

both!(lines_tell_the_time_left_too_and_of_a_disk_that_hangs_none, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let slow = Fault::Slow(Op::Write, SLOW);
    let Some(disk) = Fuse::mount(sandbox, "to-1", &[slow]) else { return };
    let running = sandbox.with(ON_A_SLOW_DISK).start();
    let last_line = |said: &str| said.lines().last().unwrap_or_default().to_owned();
    let seconds = std::cell::Cell::new(None);
    running.await_said_that("the time left", |said| {
        let line = last_line(said);
        seconds.set(tells_time_left(&line).filter(|_| line.contains("2 stored")));
        seconds.get().is_some()
    });
    assert_right(seconds.get().unwrap(), &disk);
    disk.set(&[Fault::Hangs(Op::Write)]);
    disk.await_hanging(Op::Write);
    running.await_said_that("no time left", |said| {
        let line = last_line(said);
        line.contains("2 stored") && !line.contains(" left")
    });
    disk.set(&[]);
    let run = running.finish();
    assert!(run.is_success(), "{}", run.stderr());
});

both!(a_short_run_shows_nothing, |sandbox| {
    sandbox.file("data", b"contents");
    let terminal = Terminal::new(100, 40);
    let invocation = sandbox.with(["--name={peer}", "2", "data"]);
    invocation.on_terminal(&terminal, KIND).run().quietly().stores(&numbered(0..2), b"contents");
    let screen = terminal.screen();
    assert!(is_clean(&screen, 2) && !terminal.has_shown("total"), "{screen:#?}");
});

both!(an_unknown_time_to_show_progress_is_refused, |sandbox| {
    sandbox.file("data", b"contents");
    let run = sandbox.run(["--progress=sometimes", "2", "data"]);
    run.refuses(2, "invalid value 'sometimes' for '--progress <WHEN>'");
});
