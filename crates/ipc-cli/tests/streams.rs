//! Sources that are no regular files, or do not say how long they are: each is read once, to its
//! end, however it comes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use common::fuse::{Fault, Fuse};
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

both!(files_of_another_length_than_they_say, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    for (size, length) in
        [(1, 100), (99, 100), (101, 100), (4096, 100), (1, BEYOND_ALL_BUFFERS), (100, 100)]
    {
        let contents = contents(length);
        disk.set(&[Fault::StandInSize(size)]);
        fs::write(disk.path().join("data"), contents).unwrap();
        for options in [&[][..], &["--verify", "--sparse=never"]] {
            let args = [options, &["3", "disk/data"]].concat();
            sandbox.run(args).stores(&default_paths(3, "data"), contents);
        }
        // It does not say there either.
        let stdin = File::open(disk.path().join("data")).unwrap();
        sandbox.with(["2", "-"]).stdin(stdin).run().stores(&default_paths(2, "stdin"), contents);
        fs::remove_dir_all(sandbox.path("received-files")).unwrap();
    }
});

both!(what_a_device_gives_comes_by_standard_input, |sandbox| {
    let run = sandbox.with(["2", "-"]).in_shell(r#"head -c 3000000 /dev/zero | "$@""#).run();
    run.stores(&default_paths(2, "stdin"), &vec![0; 3_000_000]);
});

both!(a_stream_gives_the_permissions_of_a_new_file, |sandbox| {
    sandbox.file("data", contents(BLOCK));
    for (source, how) in [
        ("-", r#"cat data | "$@""#),
        ("/dev/stdin", r#"cat data | "$@""#),
        ("/proc/self/fd/0", r#"cat data | "$@""#),
        // As <(...) does it.
        ("/dev/fd/9", r#"cat data | { exec 9<&0 </dev/null; "$@"; }"#),
    ] {
        let script = format!("umask 027; {how}");
        let args = ["--name={peer}", "--file-name=data", "1", source];
        sandbox.with(args).in_shell(&script).run().stores_what(&numbered(0..1), |path| {
            assert_same(path, contents(BLOCK));
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640, "{source}");
        });
    }
});

both!(a_fifo_has_permissions_of_its_own, |sandbox| {
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["1", "fifo"]).start();
    fifo.feed(&running, contents(BLOCK));
    drop(fifo);
    running.finish().stores_what(&default_paths(1, "fifo"), |path| {
        assert_same(path, contents(BLOCK));
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    });
});

both!(copies_of_a_pipe_are_not_called_by_its_number_unawares, |sandbox| {
    let contents = contents(3 * BLOCK);
    sandbox.file("data", contents);
    sandbox.file("7", contents);
    let run = |script, args: &[&str]| sandbox.with(args).in_shell(script).run();
    for (script, args, name, is_number) in [
        (r#"cat data | "$@" 7<&0"#, &["2", "/dev/fd/7"][..], "7", true),
        (r#"exec "$@" 7<data"#, &["2", "/proc/self/fd/7"], "7", true),
        (r#"cat data | "$@" 7<&0"#, &["--file-name=it", "2", "/dev/fd/7"], "it", false),
        (r#"cat data | "$@""#, &["2", "/dev/stdin"], "stdin", false),
        (r#"exec "$@""#, &["2", "7"], "7", false),
        (r#"exec "$@""#, &["2", "./7"], "7", false),
    ] {
        let run = run(script, args);
        let hint = format!("; {name:?} is a file descriptor: --file-name names the copies\n");
        assert_eq!(run.stderr().ends_with(&hint), is_number, "{args:?}: {}", run.stderr());
        run.stores(&default_paths(2, name), contents);
    }
    // What is not part of the name needs none.
    let run = run(r#"exec "$@" 7<data"#, &["--name={peer}", "2", "/dev/fd/7"]);
    assert!(!run.stderr().contains("--file-name"), "{}", run.stderr());
    run.stores(&numbered(0..2), contents);
});
