//! Threads in the program that are not its own, as an emulator has one, or a library that is loaded before it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::paths::numbered;
use common::{Sandbox, both, contents, skip};

const SIZE: usize = 1 << 20;

/// A library whose threads begin before `main`. They sleep, or never rest and use the allocator.
const LIBRARY: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void *sleep_on(void *unused) { for (;;) pause(); return unused; }
static void *allocate(void *unused) { for (;;) free(malloc(1000)); return unused; }

__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    const char *threads = getenv("THREADS");
    for (int number = threads ? atoi(threads) : 0; number > 0; number--)
        pthread_create(&thread, NULL, number == 3 ? allocate : sleep_on, NULL);
}
"#;

/// The option of `env` that loads the library; `None` without a C compiler.
fn preload(sandbox: &Sandbox) -> Option<String> {
    let source = sandbox.file("threads.c", LIBRARY.as_bytes());
    let library = sandbox.path("threads.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-pthread", "-o"])
        .args([&library, &source])
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        skip("threads of a library", "there is no C compiler");
        return None;
    }
    Some(format!("LD_PRELOAD={}", library.to_str().unwrap()))
}

both!(threads_of_a_preloaded_library_are_no_reason_to_refuse, |sandbox| {
    let Some(preload) = preload(sandbox) else { return };
    sandbox.file("data", contents(SIZE));
    for threads in ["THREADS=0", "THREADS=1", "THREADS=3"] {
        for options in [&[][..], &["--progress", "always", "--verify"]] {
            let args = [options, &["--name", "{peer}", "5", "data"]].concat();
            let run = sandbox.with(args).through(&["env", &preload, threads]).run();
            run.stores(&numbered(0..5), contents(SIZE));
            std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
        }
    }
});
