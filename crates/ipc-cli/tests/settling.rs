//! Errors at the end of a run, when copies have their names already: what the peers have said is told, and what
//! is told is there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::paused::Fifo;
use common::run::{Run, assert_same};
use common::traced::tamper_with;
use common::{Sandbox, both, contents};
use serde_json::Value;

const SIZE: usize = 1 << 20;
const PEERS: usize = 3;

const JSON: [&str; 5] = ["--json", "--name", "{peer}", "3", "data"];

/// Calls that the server makes while it settles a run.
const CALLS: [&str; 5] = ["epoll_pwait", "wait4", "pidfd_open", "ppoll", "recvfrom"];
const ERRORS: [&str; 4] = ["ENOMEM", "EINVAL", "EPERM", "ECHILD"];

/// Checks the report of a run that ended somehow: every peer is in it, each copy that it tells of is whole, and
/// there is no other. Gives the peers that have stored theirs.
fn check(sandbox: &Sandbox, run: &Run<'_>, how: &str) -> usize {
    let report: Value = serde_json::from_str(&run.stdout())
        .unwrap_or_else(|error| panic!("{how}: {error}: {}{}", run.stdout(), run.stderr()));
    let peers = report["peers"].as_array().unwrap();
    if peers.is_empty() {
        // It could not begin.
        assert!(!report["error"].is_null() && !run.is_success(), "{how}: {report}");
        assert!(!sandbox.path("received-files").exists(), "{how}: {report}");
        return 0;
    }
    assert_eq!(peers.len(), PEERS, "{how}: {report}");
    let mut stored = 0;
    for peer in peers {
        let path = sandbox.path(format!("received-files/{}", peer["peer"]));
        match peer["path"].is_null() {
            true => assert!(!path.exists(), "{how}: {report}"),
            false => assert_same(&path, contents(SIZE)),
        }
        match peer["outcome"].as_str() {
            Some("stored") => stored += 1,
            _ => assert!(!peer["error"]["message"].as_str().unwrap().is_empty(), "{how}: {report}"),
        }
    }
    assert_eq!(run.is_success(), stored == PEERS, "{how}: {report}");
    assert_eq!(report["success"], run.is_success(), "{how}: {report}");
    stored
}

/// Runs that a call is refused to, all of which store something and report it.
fn refuse(sandbox: &Sandbox, how: &str) -> Option<usize> {
    let run = sandbox.with(JSON).tampered(&["-e", how])?.start().finish_abandoning();
    let stored = check(sandbox, &run, how);
    let _ = std::fs::remove_dir_all(sandbox.path("received-files"));
    Some(stored)
}

both!(no_refused_call_loses_the_report, |sandbox| {
    sandbox.file("data", contents(SIZE));
    for call in CALLS {
        for error in ERRORS {
            for when in ["1", "2", "3", "4+"] {
                let how = format!("inject={call}:error={error}:when={when}");
                let Some(stored) = refuse(sandbox, &how) else { return };
                // It is the end of the run only that does without these, and not what comes before.
                let is_of_the_end = call == "pidfd_open"
                    || call == "epoll_pwait" && sandbox.is_sharedmem()
                    || call == "wait4" && !sandbox.is_sharedmem();
                assert!(stored == PEERS || !is_of_the_end, "{how}: {stored}");
            }
        }
    }
});

// From a place on where all peers have everything but the end of the stream.
both!(no_refusal_at_the_very_end_loses_the_report, |sandbox| {
    for call in ["epoll_pwait", "wait4", "pidfd_open,ppoll", "epoll_pwait,wait4,pidfd_open,ppoll"] {
        for error in ERRORS {
            sandbox.directory("received-files");
            let mut fifo = Fifo::new(sandbox, "fifo");
            let args = ["--json", "--name", "{peer}", "3", "fifo"];
            let running = sandbox.with(args).start();
            fifo.feed(&running, contents(SIZE));
            fifo.await_passed_on(&running);
            let how = format!("inject={call}:error={error}");
            let Some(_tracer) = tamper_with(running.pid(), &["-e", &how]) else { return };
            drop(fifo);
            check(sandbox, &running.finish_abandoning(), &how);
            std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
            std::fs::remove_file(sandbox.path("fifo")).unwrap();
        }
    }
});
