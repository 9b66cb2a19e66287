//! `--preserve`: mode and modification time of the source, to the nanosecond.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use common::paths::default_paths;
use common::run::assert_same;
use common::{BLOCK, Sandbox, both, contents};

/// Makes a file with this mode that was last changed in the past, and not at a full second.
fn old_file(sandbox: &Sandbox, mode: u32) -> SystemTime {
    let path = sandbox.file("data", contents(3 * BLOCK));
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    modified
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

both!(mode_and_time_are_those_of_the_source, |sandbox| {
    for options in [&["--preserve"][..], &["-p", "--verify", "--sync"], &["-p", "--sparse=never"]] {
        for (mode, expected) in [(0o644, 0o644), (0o777, 0o777), (0o400, 0o400), (0o6751, 0o751)] {
            let modified = old_file(sandbox, mode);
            let args = [options, &["--name={peer}", "2", "data"]].concat();
            let run = sandbox.with(args).in_shell(r#"umask 077; exec "$@""#).run();
            let paths = common::paths::paths_of(0..2, |peer| format!("received-files/{peer}"));
            run.stores_what(&paths, |copy| {
                assert_same(copy, contents(3 * BLOCK));
                assert_eq!(mode_of(copy), expected);
                assert_eq!(copy.metadata().unwrap().modified().unwrap(), modified);
            });
            std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
            std::fs::remove_file(sandbox.path("data")).unwrap();
        }
    }
});

both!(without_it_they_are_new_files, |sandbox| {
    let modified = old_file(sandbox, 0o666);
    let run = sandbox.with(["2", "data"]).in_shell(r#"umask 027; exec "$@""#).run();
    run.stores_what(&default_paths(2, "data"), |copy| {
        assert_eq!(mode_of(copy), 0o640);
        assert!(copy.metadata().unwrap().modified().unwrap() > modified);
    });
});

both!(a_stream_has_none, |sandbox| {
    let run = sandbox.with(["-p", "2", "-"]).stdin(Stdio::piped()).start().finish();
    run.refuses(1, "\"-\" is a stream and has no mode and time of its own: leave out --preserve");
});

both!(a_file_on_standard_input_has_them, |sandbox| {
    let modified = old_file(sandbox, 0o640);
    let run = sandbox.with(["-p", "2", "-"]).stdin(File::open(sandbox.path("data")).unwrap()).run();
    run.stores_what(&default_paths(2, "stdin"), |copy| {
        assert_eq!(mode_of(copy), 0o640);
        assert_eq!(copy.metadata().unwrap().modified().unwrap(), modified);
    });
});
