//! What the kernel does not give: random numbers, which is no reason to fail; and what it has no room for once the run has begun to make things: the semaphore after the
//! segment, or the next peer. The run ends with the kernel's reason, and all that was made is gone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::mounts::with_mounts;
use common::paths::{default_paths, numbered};
use common::run::Run;
use common::traced::strace;
use common::{BLOCK, Sandbox, both, contents, skip};

/// Checks a run that `sharedmem` gives up for want of a semaphore; `socket` has none.
fn lacks_semaphore(sandbox: &Sandbox, run: Run<'_>, why: &str) {
    match sandbox.is_sharedmem() {
        true => run.refuses(1, why),
        false => run.stores(&default_paths(3, "data"), contents(BLOCK)),
    }
}

both!(a_semaphore_that_finds_no_room_after_the_segment, |sandbox| {
    sandbox.file("data", contents(BLOCK));
    // One inode is the directory's, one the segment's.
    let setup = "mount -t tmpfs -o nr_inodes=2 tmpfs /dev/shm";
    let Some(run) = with_mounts(sandbox, setup, &["3", "data"]) else { return };
    let why = "cannot create a named semaphore in /dev/shm: No space left on device";
    lacks_semaphore(sandbox, run, why);
});

both!(a_semaphore_that_cannot_be_made_or_named, |sandbox| {
    sandbox.file("data", contents(BLOCK));
    for (inject, why) in [
        ("inject=openat:error=EMFILE:when=1", "Too many open files"),
        ("inject=openat:error=ENOMEM:when=1", "Cannot allocate memory"),
    ] {
        let how = ["-P", "/dev/shm", "-e", inject];
        let Some(invocation) = sandbox.with(["3", "data"]).tampered(&how) else { return };
        lacks_semaphore(sandbox, invocation.run(), why);
        let _ = fs::remove_dir_all(sandbox.path("received-files"));
    }
});

both!(a_fork_that_fails_takes_the_peers_before_it_along, |sandbox| {
    const PEERS: usize = 4;
    sandbox.file("data", contents(BLOCK));
    sandbox.directory("received-files");
    // The guard of the semaphore's name is forked first.
    let forks = PEERS + usize::from(sandbox.is_sharedmem());
    for (error, why) in
        [("EAGAIN", "Resource temporarily unavailable"), ("ENOMEM", "Cannot allocate memory")]
    {
        for fork in 1..=forks {
            let inject = format!("inject=clone:error={error}:when={fork}");
            let invocation = sandbox.with([&PEERS.to_string(), "data"]);
            let Some(invocation) = invocation.tampered(&["-e", &inject]) else { return };
            let Some(forked) = (fork - 1).checked_sub(usize::from(sandbox.is_sharedmem())) else {
                // The guard is needed only if the server is killed.
                invocation.run().stores(&default_paths(PEERS, "data"), contents(BLOCK));
                continue;
            };
            let what = format!("cannot fork more than {forked} of {PEERS} peers: {why}: use fewer");
            invocation.run().refuses(1, &what);
        }
    }
});

/// The command that runs another one as somebody who has no other process; `None` where that cannot
/// be had. What they are to write to is opened to all.
fn alone(sandbox: &Sandbox) -> Option<Vec<String>> {
    let command = if rustix::process::geteuid().is_root() {
        for path in [sandbox.root().to_owned(), sandbox.path(""), sandbox.path("received-files")] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        // Root has no such limit. Nobody has this number, and no other test does.
        let user = (1 << 24) + 2 * std::process::id() + u32::from(sandbox.is_sharedmem());
        vec!["setpriv".to_owned(), format!("--reuid={user}"), "--clear-groups".to_owned()]
    } else {
        vec!["unshare".to_owned(), "-U".to_owned()]
    };
    let invocation = sandbox.with(["--version"]).through(&words(&command));
    invocation.run().is_success().then_some(command)
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

both!(a_limit_of_processes_takes_the_peers_before_it_along, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    sandbox.directory("received-files");
    let Some(command) = alone(sandbox) else {
        return skip("a limit of processes", "nobody else's count can be had");
    };
    // The server is one itself. The guard of the semaphore's name has ended by then, but is still counted
    // until it has been reaped.
    let guard = usize::from(sandbox.is_sharedmem());
    let limit = format!("--nproc={}", 4 + guard);
    let invocation = sandbox.with(["3", "data"]).through(&["prlimit", &limit]);
    invocation.through(&words(&command)).run().stores(&default_paths(3, "data"), contents);
    for processes in 1..=3 {
        let limit = format!("--nproc={processes}");
        let invocation = sandbox.with(["3", "data"]).through(&["prlimit", &limit]);
        let run = invocation.through(&words(&command)).run();
        run.refuses(1, "peers: Resource temporarily unavailable: use fewer peers, or raise");
    }
});

// Old kernels and seccomp filters refuse the call; in some containers /dev is missing too.
both!(random_numbers_are_not_needed, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    let Some(strace) = strace("random numbers") else { return };
    let all = ["--verify", "--sync", "--progress", "always", "--name", "{peer}"];
    for errno in ["ENOSYS", "EPERM", "EINVAL", "EIO"] {
        let inject = format!("inject=getrandom:error={errno}");
        let refuse = [strace, &["-DDD", "-e", &inject]].concat();
        // What is there is replaced under a hidden name the second time.
        for _ in 0..2 {
            let run = sandbox.with([&all[..], &["3", "data"]].concat()).through(&refuse).run();
            run.stores(&numbered(0..3), contents);
        }
        let help = sandbox.with(["--help"]).through(&refuse).run();
        help.prints(predicates::str::contains("--file-name"));
        let wrong = sandbox.with(["--syn", "3", "data"]).through(&refuse).run();
        wrong.refuses(2, "unexpected argument '--syn' found; a similar argument exists: '--sync'");
    }
    let refuse = [strace, &["-DDD", "-e", "inject=getrandom:error=ENOSYS"]].concat().join(" ");
    for setup in [
        "mount --bind /dev/null /dev/urandom",
        "mount -t tmpfs tmpfs /dev && mkdir /dev/shm && : >/dev/null",
    ] {
        let setup = format!(r#"{setup} && set -- {refuse} "$@""#);
        for _ in 0..2 {
            let args = ["--name", "{peer}", "3", "data"];
            let Some(run) = with_mounts(sandbox, &setup, &args) else { return };
            run.stores(&numbered(0..3), contents);
        }
    }
});
