//! `--null`: paths that end with NUL, so that any path can be told from the next.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BLOCK, both, contents};

both!(paths_end_with_nul, |sandbox| {
    sandbox.file("da\nta", contents(BLOCK));
    for option in ["-0", "--null"] {
        let script = r#""$@" > list; status=$?; tr '\0\n' '\n_' < list; rm list; exit $status"#;
        let args = [option, "--name={peer}-{name}", "2", "da\nta"];
        let run = sandbox.with(args).in_shell(script).run().says("2 of 2 peers");
        assert_eq!(run.stdout(), "received-files/0-da_ta\nreceived-files/1-da_ta\n");
    }
});

both!(xargs_takes_them, |sandbox| {
    sandbox.file("da\nta", contents(BLOCK));
    let script = r#""$@" | xargs -0 wc -c | tail -n 1"#;
    let args = ["-0", "--name={peer}-{name}", "2", "da\nta"];
    let run = sandbox.with(args).in_shell(script).run().says("2 of 2 peers");
    assert_eq!(run.stdout().trim(), format!("{} total", 2 * BLOCK));
});

both!(a_list_that_cannot_be_delivered_is_a_failure, |sandbox| {
    sandbox.file("data", contents(BLOCK));
    let script = r#""$@" > /dev/full"#;
    let run = sandbox.with(["-0", "--name={peer}", "2", "data"]).in_shell(script).run();
    let run = run.says("cannot write to standard output: No space left on device");
    assert!(!run.is_success());
});
