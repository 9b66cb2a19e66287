//! Every size at which something about blocks, rings, chunks or windows changes, and every number
//! of peers, gives copies that are whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use common::paths::{default_paths, paths_of};
use common::run::assert_same;
use common::{
    BEYOND_ALL_BUFFERS, BLOCK, CHUNK, RING, SHORT_RING, Sandbox, WINDOW, both, contents, skip,
};

/// Copies `size` bytes to `peers` peers.
fn copy(sandbox: &Sandbox, peers: usize, size: usize, options: &[&str]) {
    let contents = contents(size);
    sandbox.file("data", contents);
    let peers_arg = peers.to_string();
    let args = [options, &[peers_arg.as_str(), "data"]].concat();
    sandbox.run(args).stores(&default_paths(peers, "data"), contents);
    fs::remove_dir_all(sandbox.path("received-files")).unwrap();
}

both!(an_empty_file_and_one_byte, |sandbox| {
    copy(sandbox, 2, 0, &[]);
    copy(sandbox, 2, 1, &[]);
});

both!(sizes_around_a_block_and_a_chunk, |sandbox| {
    for size in [BLOCK, CHUNK] {
        copy(sandbox, 2, size - 1, &[]);
        copy(sandbox, 2, size, &[]);
        copy(sandbox, 2, size + 1, &[]);
    }
});

both!(sizes_around_a_ring_and_a_window, |sandbox| {
    for size in [SHORT_RING, RING, WINDOW] {
        copy(sandbox, 2, size - 1, &[]);
        copy(sandbox, 2, size, &[]);
        copy(sandbox, 2, size + 1, &[]);
    }
});

both!(several_rings_and_windows, |sandbox| {
    copy(sandbox, 3, 3 * RING, &[]);
    copy(sandbox, 3, 3 * WINDOW + 1, &[]);
    copy(sandbox, 3, BEYOND_ALL_BUFFERS + BLOCK / 2, &[]);
});

both!(any_number_of_peers, |sandbox| {
    for peers in [1, 2, 5, 40, 200] {
        copy(sandbox, peers, BLOCK + 1, &[]);
    }
});

both!(many_peers_and_several_rings, |sandbox| {
    copy(sandbox, 40, 2 * RING + 1, &[]);
});

/// A block, and a ring of it, in both programs' words: only `sharedmem` has a choice.
fn ring_options(sandbox: &Sandbox, rings: &[(&str, &str, &[usize])]) {
    for &(block_size, blocks, sizes) in rings {
        for &size in sizes {
            let options = ["--block-size", block_size, "--blocks", blocks];
            copy(sandbox, 2, size, if sandbox.is_sharedmem() { &options } else { &[] });
        }
    }
}

both!(lockstep_and_short_rings, |sandbox| {
    let sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 1, 10 * BLOCK + 7];
    ring_options(
        sandbox,
        &[("80KiB", "1", &sizes), ("80KiB", "2", &sizes), ("80KiB", "3", &sizes)],
    );
});

both!(blocks_of_odd_sizes, |sandbox| {
    ring_options(
        sandbox,
        &[
            ("1", "1", &[0, 1, 2, 500]),
            ("1", "32", &[31, 32, 33, 2000]),
            ("7", "3", &[6, 7, 8, 20, 21, 22, 5000]),
            ("4096", "32", &[4095, 4096, 4097, 131_071, 131_072, 131_073]),
            ("1M", "2", &[RING, 2 << 20, (2 << 20) + 1]),
            ("1GB", "1", &[1, BLOCK]),
        ],
    );
});

both!(many_peers_in_lockstep, |sandbox| {
    let size = BLOCK * 5 + 1;
    let options = ["--blocks", "1"];
    copy(sandbox, 40, size, if sandbox.is_sharedmem() { &options } else { &[] });
});

both!(a_copy_has_no_more_permissions_than_its_source, |sandbox| {
    let contents = contents(BLOCK);
    let source = sandbox.file("data", contents);
    let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o440);
    fs::set_permissions(source, read_only).unwrap();
    let paths = paths_of(0..2, |peer| format!("received-files/{peer}"));
    sandbox.run(["--name", "{peer}", "2", "data"]).stores_what(&paths, |path| {
        assert_same(path, contents);
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
        assert_eq!(mode & 0o7337, 0, "no more permissions than the source: {mode:o}");
    });
});

/// Bytes here and there in a file of zeros, where a number of 31 or 32 bits overflows.
const MARKS: [(u64, &[u8; 8]); 5] = [
    (0, b"at begin"),
    ((1 << 31) - 4, b"at 2 GiB"),
    ((1 << 32) - 4, b"at 4 GiB"),
    ((1 << 32) + 4085, b"near end"),
    ((1 << 32) + 81_920, b"the end!"),
];
const HUGE: u64 = MARKS[4].0 + 8;

/// There shall be room for one at a time.
static HUGE_FILE: Mutex<()> = Mutex::new(());

both!(more_than_four_gib, |sandbox| {
    let _turn = HUGE_FILE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let space = rustix::fs::statvfs(sandbox.root()).unwrap();
    if space.f_bavail * space.f_frsize < HUGE + (1 << 30) {
        return skip("a file of more than 4 GiB", "less than 5 GiB of room for temporary files");
    }
    let source = File::create(sandbox.path("data")).unwrap();
    MARKS.iter().for_each(|(offset, mark)| source.write_all_at(*mark, *offset).unwrap());
    let paths = paths_of(0..1, |_| "received-files/data");
    sandbox.run(["--name", "{name}", "1", "data"]).stores_what(&paths, assert_is_huge_file);
});

/// Compares with what the source is known to be, so that only one of the two is read.
fn assert_is_huge_file(path: &Path) {
    const PIECE: usize = 1 << 20;
    let mut file = File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), HUGE);
    let (zeros, mut expected, mut piece) = (vec![0; PIECE], vec![0; PIECE], vec![0; PIECE]);
    for start in (0..HUGE).step_by(PIECE) {
        let length = PIECE.min(usize::try_from(HUGE - start).unwrap());
        expected.copy_from_slice(&zeros);
        for (offset, mark) in MARKS {
            for (offset, byte) in (offset..).zip(mark) {
                let place = offset.checked_sub(start).and_then(|at| usize::try_from(at).ok());
                if let Some(place) = place.and_then(|place| expected.get_mut(place)) {
                    *place = *byte;
                }
            }
        }
        file.read_exact(&mut piece[..length]).unwrap();
        assert!(piece[..length] == expected[..length], "differs in the MiB at {start}");
    }
}
