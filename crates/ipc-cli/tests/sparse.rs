//! `--sparse`: holes of the source are holes of the copies, whatever way the bytes take.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::mounts::with_mounts_checked;
use common::paths::default_paths;
use common::run::assert_same;
use common::{BLOCK, RING, Sandbox, both, contents};

const MIB: u64 = 1 << 20;

/// Makes a file of `size` bytes with data, of so many bytes, at these offsets.
fn sparse_file(sandbox: &Sandbox, name: &str, size: u64, data: &[(u64, usize)]) -> PathBuf {
    let path = sandbox.path(name);
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for &(offset, length) in data {
        file.write_all_at(contents(length), offset).unwrap();
    }
    path
}

/// Bytes that a file takes on its disk.
fn occupied(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

/// The same bytes, and no more room for them than the source takes.
fn assert_same_and_sparse(copy: &Path, source: &Path, whole: &[u8]) {
    assert_same(copy, whole);
    // File systems differ by a few blocks from one file to the next.
    assert!(occupied(copy) <= occupied(source) + 64 * 1024, "{copy:?} takes {}", occupied(copy));
}

both!(holes_stay_holes_wherever_they_are, |sandbox| {
    let block = BLOCK as u64;
    let cases: [(u64, &[(u64, usize)]); 7] = [
        (20 * MIB, &[]),
        (20 * MIB, &[(0, 1)]),
        (20 * MIB, &[(20 * MIB - 1, 1)]),
        (20 * MIB + 7, &[(5 * MIB, 3 * BLOCK), (10 * MIB + 123, 5000)]),
        (20 * MIB, &[(block, BLOCK), (3 * block, BLOCK), (5 * block, BLOCK + 1)]),
        (60 * MIB, &[(MIB, RING + 1), (30 * MIB, 2 * RING)]),
        (1, &[]),
    ];
    for options in [&[][..], &["--verify"], &["--on-slow=wait"], &["--on-slow=drop", "--sync"]] {
        for (size, data) in cases {
            let source = sparse_file(sandbox, "data", size, data);
            let whole = std::fs::read(&source).unwrap();
            let run = sandbox.run([options, &["2", "data"]].concat());
            run.stores_what(&default_paths(2, "data"), |copy| {
                assert_same_and_sparse(copy, &source, &whole);
            });
            std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
        }
    }
});

both!(many_holes_stay_holes, |sandbox| {
    let data: Vec<_> = (0..2000).map(|number| (number * 16384, 4096)).collect();
    let source = sparse_file(sandbox, "data", 2000 * 16384, &data);
    let whole = std::fs::read(&source).unwrap();
    let run = sandbox.run(["3", "data"]);
    run.stores_what(&default_paths(3, "data"), |copy| {
        assert_same_and_sparse(copy, &source, &whole);
    });
});

// That its copies are whole, the sizes and the data tell; to read all the zeros would take minutes.
both!(a_huge_file_with_little_data_takes_little_room, |sandbox| {
    const DATA: usize = 1 << 20;
    let at = 7 << 30;
    sparse_file(sandbox, "data", 10 << 30, &[(at, DATA)]);
    let run = sandbox.run(["4", "data"]);
    run.stores_what(&default_paths(4, "data"), |copy| {
        assert_eq!(copy.metadata().unwrap().len(), 10 << 30);
        assert!(occupied(copy) <= MIB + 64 * 1024, "{}", occupied(copy));
        let mut data = vec![0; DATA];
        File::open(copy).unwrap().read_exact_at(&mut data, at).unwrap();
        assert!(data == contents(DATA));
    });
});

both!(never_stores_zeros, |sandbox| {
    let source = sparse_file(sandbox, "data", 8 * MIB, &[(MIB, 5000)]);
    let whole = std::fs::read(&source).unwrap();
    let run = sandbox.run(["--sparse=never", "2", "data"]);
    run.stores_what(&default_paths(2, "data"), |copy| {
        assert_same(copy, &whole);
        assert!(occupied(copy) >= 8 * MIB, "{}", occupied(copy));
    });
});

both!(a_stream_of_zeros_is_stored_as_it_is, |sandbox| {
    let source = sparse_file(sandbox, "data", 8 * MIB, &[(MIB, 5000)]);
    let whole = std::fs::read(&source).unwrap();
    let run = sandbox.with(["2", "-"]).stdin(File::open(&source).unwrap()).run();
    run.stores(&default_paths(2, "stdin"), &whole);
});

both!(only_data_needs_room, |sandbox| {
    sandbox.directory("small");
    sparse_file(sandbox, "data", 1 << 30, &[(MIB, 65536)]);
    let args = ["--dir=small", "--name={peer}", "3", "data"];
    let mount = "mount -t tmpfs -o size=1m tmpfs small";
    let check = "stat -c '%n %s' small/* >&2";
    let Some(run) = with_mounts_checked(sandbox, mount, check, &args) else { return };
    let size = 1_u64 << 30;
    let run = (0..3).fold(run, |run, peer| run.says(&format!("small/{peer} {size}")));
    assert!(run.is_success(), "{run:?}");
});
