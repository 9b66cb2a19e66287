//! Sources that are no regular files, or do not say how long they are: each is read once, to its
//! end, however it comes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use common::paths::{default_paths, numbered, paths_of};
use common::paused::Fifo;
use common::run::assert_same;
use common::{BEYOND_ALL_BUFFERS, BLOCK, CHUNK, RING, both, contents, skip};

both!(standard_input_from_a_pipe, |sandbox| {
    for size in [0, 1, BLOCK, CHUNK + 1, RING, BEYOND_ALL_BUFFERS] {
        let contents = contents(size);
        let running = sandbox.with(["3", "-"]).stdin(Stdio::piped()).start();
        running.feed_stdin(contents).finish().stores(&default_paths(3, "stdin"), contents);
    }
});

both!(standard_input_from_a_file, |sandbox| {
    let contents = contents(RING + 1);
    let mut file = File::open(sandbox.file("data", contents)).unwrap();
    let run = sandbox.with(["2", "-"]).stdin(file.try_clone().unwrap()).run();
    run.stores(&default_paths(2, "stdin"), contents);

    file.seek(SeekFrom::Start(1000)).unwrap();
    let run = sandbox.with(["2", "-"]).stdin(file).run();
    run.stores(&default_paths(2, "stdin"), &contents[1000..]);
});

both!(standard_input_from_nowhere, |sandbox| {
    sandbox.with(["2", "-"]).stdin(Stdio::null()).run().stores(&default_paths(2, "stdin"), b"");
});

both!(standard_input_under_another_name, |sandbox| {
    let args = ["--file-name", "data", "--name", "{peer}-{name}", "2", "-"];
    let running = sandbox.with(args).stdin(Stdio::piped()).start();
    let paths = paths_of(0..2, |peer| format!("received-files/{peer}-data"));
    running.feed_stdin(b"contents").finish().stores(&paths, b"contents");
});

both!(a_file_that_is_called_minus, |sandbox| {
    sandbox.file("-", b"contents");
    sandbox.run(["2", "./-"]).stores(&default_paths(2, "-"), b"contents");
});

both!(a_directory_as_standard_input_is_refused, |sandbox| {
    let directory = File::open(sandbox.path("")).unwrap();
    sandbox.with(["2", "-"]).stdin(directory).run().refuses(1, "it is a directory");
});

both!(a_fifo_that_is_faster_than_the_peers, |sandbox| {
    let contents = contents(BEYOND_ALL_BUFFERS);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["5", "fifo"]).start();
    fifo.feed(&running, contents);
    drop(fifo);
    running.finish().stores(&default_paths(5, "fifo"), contents);
});

both!(a_fifo_that_is_slower_than_the_peers, |sandbox| {
    let contents = contents(3 * BLOCK);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["5", "fifo"]).start();
    for piece in contents.chunks(997) {
        fifo.feed(&running, piece);
        fifo.await_empty(&running);
    }
    drop(fifo);
    running.finish().stores(&default_paths(5, "fifo"), contents);
});

both!(an_empty_fifo, |sandbox| {
    drop(Fifo::new(sandbox, "fifo"));
    let running = sandbox.with(["2", "fifo"]).start();
    // Opening it for writing waits for the program, which waits for a writer.
    drop(File::options().write(true).open(sandbox.path("fifo")).unwrap());
    running.finish().stores(&default_paths(2, "fifo"), b"");
});

both!(a_fifo_that_is_removed_in_between, |sandbox| {
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let mut running = sandbox.with(["2", "fifo"]).start();
    fifo.feed(&running, &contents[..BEYOND_ALL_BUFFERS]);
    fs::remove_file(sandbox.path("fifo")).unwrap();
    running.accept_changes();
    fifo.feed(&running, &contents[BEYOND_ALL_BUFFERS..]);
    drop(fifo);
    running.finish().stores(&default_paths(2, "fifo"), contents);
});

both!(files_that_have_no_size, |sandbox| {
    for path in ["/proc/version", "/proc/cpuinfo"] {
        let mut contents = Vec::new();
        File::open(path).unwrap().read_to_end(&mut contents).unwrap();
        let name = path.rsplit('/').next().unwrap();
        // The processor's speed may have changed meanwhile.
        sandbox.run(["3", path]).stores_what(&default_paths(3, name), |stored| {
            let stored = fs::read(stored).unwrap();
            assert!(stored.starts_with(&contents[..10]), "{}", stored.escape_ascii());
            assert!(stored.ends_with(b"\n"));
        });
    }
});

both!(files_that_are_shorter_than_they_say, |sandbox| {
    for path in ["/sys/kernel/fscaps", "/sys/kernel/rcu_expedited"] {
        let Ok(contents) = fs::read(path) else {
            skip(path, "it is not there");
            continue;
        };
        assert!(fs::metadata(path).unwrap().len() > contents.len().try_into().unwrap());
        let name = path.rsplit('/').next().unwrap();
        sandbox.run(["3", path]).stores(&default_paths(3, name), &contents);
    }
});

both!(what_a_device_gives_comes_by_standard_input, |sandbox| {
    let run = sandbox.with(["2", "-"]).in_shell(r#"head -c 3000000 /dev/zero | "$@""#).run();
    run.stores(&default_paths(2, "stdin"), &vec![0; 3_000_000]);
});

both!(a_stream_gives_the_permissions_of_a_new_file, |sandbox| {
    sandbox.file("data", contents(BLOCK));
    let script = r#"umask 027; cat data | "$@""#;
    let run = sandbox.with(["--name={peer}", "1", "-"]).in_shell(script).run();
    run.stores_what(&numbered(0..1), |path| {
        assert_same(path, contents(BLOCK));
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
    });
});
