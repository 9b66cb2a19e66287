//! Many runs, many at once, many peers, and more than fits into memory, each in a small form: all is
//! right, and nothing is left or grows. `cargo xtask endure` has the large ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::Read;

use common::paths::{default_paths, paths_of};
use common::{BLOCK, both, contents, skip};

both!(two_hundred_runs_in_a_row, |sandbox| {
    let contents = contents(BLOCK + 1);
    sandbox.file("data", contents);
    let paths = paths_of(0..2, |peer| format!("received-files/{peer}"));
    for _ in 0..200 {
        sandbox.run(["--name", "{peer}", "2", "data"]).stores(&paths, contents);
    }
});

both!(fifty_runs_side_by_side_in_one_directory, |sandbox| {
    let contents = contents(2 * BLOCK + 1);
    sandbox.file("data", contents);
    let script = r#"
        for run in $(seq 50); do "$@" & runs="$runs $!"; done
        for run in $runs; do wait "$run" || exit; done"#;
    let run = sandbox.with(["--quiet", "3", "data"]).in_shell(script).run();
    run.quietly().stores(&default_paths(150, "data"), contents);
});

both!(fifty_runs_side_by_side_for_the_same_names, |sandbox| {
    let contents = contents(2 * BLOCK + 1);
    sandbox.file("data", contents);
    let script = r#"
        for run in $(seq 50); do "$@" >/dev/null & runs="$runs $!"; done
        for run in $runs; do wait "$run" || exit; done
        printf '%s\n' received-files/0 received-files/1 received-files/2"#;
    let args = ["--quiet", "--name", "{peer}", "3", "data"];
    let paths = paths_of(0..3, |peer| format!("received-files/{peer}"));
    sandbox.with(args).in_shell(script).run().quietly().stores(&paths, contents);
});

both!(a_thousand_peers, |sandbox| {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if limit.is_some_and(|limit| limit < 2100) {
        return skip("a thousand peers", "the limit of open files is too low");
    }
    let contents = contents(1000);
    sandbox.file("data", contents);
    sandbox.run(["1000", "data"]).stores(&default_paths(1000, "data"), contents);
});

both!(memory_does_not_grow_with_the_file, |sandbox| {
    const SIZE: u64 = 128 << 20;
    // Of zeros, and without room of its own.
    let source = File::create(sandbox.path("data")).unwrap();
    source.set_len(SIZE).unwrap();
    let check = |path: &std::path::Path| {
        let mut file = File::open(path).unwrap();
        let (zeros, mut piece) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        for _ in 0..SIZE >> 20 {
            file.read_exact(&mut piece).unwrap();
            assert!(piece == zeros, "{path:?}");
        }
    };
    // All that a process may have, its code and its stack included, in KiB: a part of the file.
    let limited = r#"ulimit -v 65536; exec "$@""#;
    let paths = paths_of(0..2, |peer| format!("received-files/{peer}"));
    let invocation = sandbox.with(["--name", "{peer}", "2", "data"]).in_shell(limited);
    invocation.run().stores_what(&paths, check);
    let stream = sandbox.with(["--name", "{peer}", "2", "-"]).in_shell(limited);
    stream.stdin(File::open(sandbox.path("data")).unwrap()).run().stores_what(&paths, check);
});
