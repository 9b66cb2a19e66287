//! What a run made is gone when it ends without a use for it: by itself, killed, on a disk that hangs; and
//! what another run uses stays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::fuse::{Fault, Fuse, Op};
use common::leftovers::processes_of;
use common::paths::paths_of;
use common::paused::{Fifo, await_peers};
use common::run::assert_same;
use common::running::Running;
use common::traced::{strace, tamper_with};
use common::{BEYOND_ALL_BUFFERS, RING, Sandbox, both, contents};
use rustix::process::{Pid, Signal, kill_process};

/// A run of one peer that stores in `directory`, and stands still. It works elsewhere than the test's others, as
/// its processes would be taken for theirs.
fn stand_still<'s>(
    sandbox: &'s Sandbox,
    elsewhere: &str,
    directory: &str,
    name: &str,
) -> (Fifo, Running<'s>, Vec<Pid>) {
    let fifo_name = format!("fifo-{name}");
    let _ = fs::remove_file(sandbox.path(&fifo_name));
    let mut fifo = Fifo::new(sandbox, &fifo_name);
    let (source, directory) = (sandbox.path(fifo_name), sandbox.path(directory));
    let args = ["--dir".as_ref(), directory.as_os_str(), "--name".as_ref(), name.as_ref()];
    let args = args.into_iter().chain(["1".as_ref(), source.as_os_str()]);
    let script = format!(r#"cd {elsewhere} && exec "$@""#);
    let running = sandbox.with(args).in_shell(&script).start();
    // Its copy has no name yet, and has begun.
    fifo.feed(&running, contents(BEYOND_ALL_BUFFERS));
    let peers = await_peers(&running, 1, |_| true).unwrap();
    (fifo, running, peers)
}

/// The path that a copy gets from [`stand_still`].
fn path_of(sandbox: &Sandbox, path: &str) -> Vec<Vec<u8>> {
    vec![sandbox.path(path).into_os_string().into_encoded_bytes()]
}

both!(a_run_that_fails_leaves_the_directory_to_another, |sandbox| {
    for (made, used) in
        [("new", "new"), ("new/deep", "new/deep"), ("new/deep", "new"), ("new", "new/deep")]
    {
        let (one_fifo, mut one, peers) = stand_still(sandbox, ".", made, "one");
        let (other_fifo, mut other, _) = stand_still(sandbox, "/", used, "other");
        one.accept_changes();
        kill_process(peers[0], Signal::KILL).unwrap();
        drop(one_fifo);
        // What it made below the other's directory is gone.
        assert!(one.finish().stderr().contains("peer 0 (pid"));
        other.accept_changes();
        drop(other_fifo);
        let path = path_of(sandbox, &format!("{used}/other"));
        other.finish().stores(&path, contents(BEYOND_ALL_BUFFERS));
        fs::remove_dir_all(sandbox.path("new")).unwrap();
    }
});

both!(a_killed_run_leaves_the_directory_to_another, |sandbox| {
    let (one_fifo, mut one, _) = stand_still(sandbox, ".", "new", "one");
    let (other_fifo, other, _) = stand_still(sandbox, "/", "new", "other");
    one.accept_changes();
    let kill = |server, signal| kill_process(server, signal).unwrap();
    one.die_of(Signal::KILL, kill).leaves_nothing();
    drop((one_fifo, other_fifo));
    other.finish().stores(&path_of(sandbox, "new/other"), contents(BEYOND_ALL_BUFFERS));
});

/// Starts two runs that need the same missing directory, one of which hits a limit; gives what became of
/// the other.
fn race(sandbox: &Sandbox, number: usize, directory: &str) -> std::process::Output {
    let directory = format!("{number}/{directory}");
    let run = |script: &str, name: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(sandbox.program_path());
        command.args(["--sync", "--dir", &directory, "--name", name, "1", "data"]);
        command.current_dir(sandbox.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let limited = run(r#"ulimit -f 16000; exec "$@""#, "limited");
    let other = run(r#"exec "$@""#, "other");
    assert!(!limited.wait_with_output().unwrap().status.success());
    other.wait_with_output().unwrap()
}

both!(of_two_runs_at_once_one_that_fails_harms_no_other, |sandbox| {
    // More than the limit, and less than a ring of shared memory has to be for it.
    let contents = contents(17 << 20);
    sandbox.file("data", contents);
    for number in 0..80 {
        let directory = ["new", "new/deep", "."][number % 3];
        let output = race(sandbox, number, directory);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{number}: {said}");
        assert_same(&sandbox.path(format!("{number}/{directory}/other")), contents);
        fs::remove_dir_all(sandbox.path(number.to_string())).unwrap();
    }
});

both!(a_killed_server_leaves_no_directory, |sandbox| {
    for (options, peers) in [
        (&[][..], 2),
        (&["--dir=new/deep"], 2),
        (&["--dir=a/../b/c"], 2),
        (&["--dir=to/{peer}/deep"], 3),
        (&["--dir=one", "--dir=two/deep"], 2),
    ] {
        for signal in [Signal::KILL, Signal::TERM] {
            let _ = fs::remove_file(sandbox.path("fifo"));
            let mut fifo = Fifo::new(sandbox, "fifo");
            let count = peers.to_string();
            let running = sandbox.with([options, &[&count, "fifo"]].concat()).start();
            fifo.feed(&running, contents(RING));
            await_peers(&running, peers, |_| true).unwrap();
            let kill = |server, signal| kill_process(server, signal).unwrap();
            running.die_of(signal, kill).leaves_nothing();
        }
    }
});

both!(a_server_killed_just_after_directories_were_made_leaves_none, |sandbox| {
    sandbox.file("data", contents(RING));
    // They have been made by then, and no peer has been forked. Only the server is traced, and not what cleans
    // up.
    for call in ["epoll_create1:signal=KILL:when=1", "epoll_create1:signal=TERM:when=1"] {
        let Some([strace, _, options @ ..]) = strace("calls that fail") else { return };
        let how = format!("inject={call}");
        let command = [&[*strace], options, &["-DDD", "-e", &how]].concat();
        let args = ["--dir=new/{peer}", "--name=copy", "2", "data"];
        let signal = if call.contains("KILL") { Signal::KILL } else { Signal::TERM };
        sandbox.with(args).through(&command).start().die_of(signal, |_, _| {}).leaves_nothing();
    }
});

both!(a_guard_that_was_killed_is_replaced, |sandbox| {
    let (fifo, running, peers) = stand_still(sandbox, ".", "new/deep", "copy");
    let known = [&[running.pid()], &peers[..]].concat();
    let all = processes_of(sandbox.program_path(), &sandbox.path("."));
    let guards: Vec<_> = all.into_iter().filter(|pid| !known.contains(pid)).collect();
    assert_eq!(guards.len(), 1);
    kill_process(guards[0], Signal::KILL).unwrap();
    kill_process(peers[0], Signal::KILL).unwrap();
    drop(fifo);
    running.finish().loses(&[(0, "killed by SIGKILL")], &[], &[]);
});

both!(a_hidden_name_is_removed_where_its_directory_has_gone_to, |sandbox| {
    let contents = contents(RING);
    for peer in 0..3 {
        sandbox.directory(format!("d{peer}"));
        sandbox.file(format!("d{peer}/copy"), b"old");
    }
    let mut fifo = Fifo::new(sandbox, "fifo");
    let mut running = sandbox.with(["--dir=d{peer}", "--name=copy", "3", "fifo"]).start();
    fifo.feed(&running, contents);
    let peers = await_peers(&running, 3, |_| true).unwrap();
    // It has its hidden name by then.
    let Some(_tracer) = tamper_with(peers[1], &["-e", "inject=renameat:signal=KILL"]) else {
        return;
    };
    fs::rename(sandbox.path("d1"), sandbox.path("elsewhere")).unwrap();
    sandbox.directory("d1");
    running.accept_changes();
    drop(fifo);
    let paths = paths_of([0, 2], |peer| format!("d{peer}/copy"));
    running.finish().loses(&[(1, "killed by SIGKILL")], &paths, contents);
    assert_same(&sandbox.path("elsewhere/copy"), b"old");
});

both!(a_clean_up_that_hangs_is_left_to_itself, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "to-1", &[Fault::Hangs(Op::Unlink)]) else { return };
    let contents = contents(BEYOND_ALL_BUFFERS);
    sandbox.directory("to-0");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let args = ["--dir=to-{peer}", "--dir=to-{peer}", "--dir=new", "--name=copy", "3", "fifo"];
    let running = sandbox.with(args).start();
    fifo.feed(&running, contents);
    let peers = await_peers(&running, 3, |_| true).unwrap();
    kill_process(peers[1], Signal::KILL).unwrap();
    drop(fifo);
    let run = running.finish_abandoning();
    let said = run.stderr();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("cannot remove in time what failed peers have left: process"), "{said}");
    assert!(said.contains("peer 1 (pid"), "{said}");
    assert_eq!(run.stdout(), "to-0/copy\nnew/copy\n");
    for copy in ["to-0/copy", "new/copy"] {
        assert_same(&sandbox.path(copy), contents);
    }
    // Once the disk answers, it is done.
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
});

both!(a_disk_that_hangs_keeps_no_other_from_being_cleaned_up, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "to-0", &[Fault::Hangs(Op::Unlink)]) else { return };
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["--dir=to-{peer}", "--name=copy", "2", "fifo"]).start();
    fifo.feed(&running, contents(BEYOND_ALL_BUFFERS));
    let peers = await_peers(&running, 2, |_| true).unwrap();
    peers.iter().for_each(|&peer| kill_process(peer, Signal::KILL).unwrap());
    drop(fifo);
    while sandbox.path("to-1").exists() {
        std::thread::yield_now();
    }
    let run = running.finish_abandoning();
    assert!(run.stderr().contains("cannot remove in time"));
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
});

both!(copies_do_not_depend_on_locks, |sandbox| {
    sandbox.file("data", b"contents");
    let store = |path: &str, command: &[&str]| {
        let directory = Path::new(path).parent().unwrap().to_str().unwrap();
        let invocation = sandbox.with(["--dir", directory, "--name", "copy", "1", "data"]);
        invocation.through(command).run().stores(&paths_of([0], |_| path), b"contents");
        fs::remove_file(sandbox.path(path)).unwrap();
    };
    for (number, errno) in ["ENOLCK", "ENOSYS", "EPERM", "EAGAIN", "EINVAL"].iter().enumerate() {
        let directory = format!("new-{number}/deep");
        for directory in ["there", &directory] {
            let path = sandbox.path(directory);
            let how = format!("inject=fcntl:error={errno}");
            let Some(strace) = strace("calls that fail") else { return };
            let command = [strace, &["-P", path.to_str().unwrap(), "-e", &how]].concat();
            store(&format!("{directory}/copy"), &command);
        }
    }
    // Whoever starts the program may hold it for reasons of its own.
    store("there/copy", &["flock", "there"]);
    store("there/copy", &["flock", "--shared", "there"]);
});
