//! A directory for each peer, by `{peer}` or by several `--dir`: one that cannot be used fails its peer at
//! once, and the others are served.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use common::mounts::with_mounts;
use common::paths::{PID, paths_of};
use common::{Sandbox, both, contents, heeding_permissions, skip};

both!(a_directory_can_be_given_for_each_peer, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("usb");
    let run = sandbox.run(["--dir", "ssd", "--dir", "backup/x", "-d", "usb", "3", "data"]);
    let directories = ["ssd", "backup/x", "usb"];
    let path = |peer: usize| format!("{}/pid-{PID}_data", directories[peer]);
    run.stores(&paths_of(0..3, path), b"contents");
});

both!(a_number_can_stand_in_each_of_several_directories, |sandbox| {
    sandbox.file("data", b"contents");
    let run = sandbox.run(["--dir=a{peer}", "--dir={peer}/b", "--name=x", "2", "data"]);
    run.stores(&paths_of(0..2, |peer| ["a0/x", "1/b/x"][peer]), b"contents");
    // One directory may be given to several peers, if their names differ.
    let run = sandbox.run(["--dir=c", "--dir=c", "--name={peer}", "2", "data"]);
    run.stores(&paths_of(0..2, |peer| format!("c/{peer}")), b"contents");
});

both!(any_other_number_of_directories_is_wrong, |sandbox| {
    sandbox.file("data", b"contents");
    for (directories, peers) in [(2, "3"), (4, "3"), (2, "1"), (3, "10000")] {
        let mut args: Vec<String> =
            (0..directories).map(|number| format!("--dir={number}")).collect();
        args.extend([peers.into(), "data".into()]);
        let why = format!("--dir is given {directories} times for {peers} peers: give it once, or");
        sandbox.run(args).refuses(2, &why);
    }
});

both!(two_peers_with_one_path_are_refused, |sandbox| {
    sandbox.file("data", b"contents");
    let refuse = |directories: [&str; 2], status, why| {
        let args = directories.map(|directory| format!("--dir={directory}"));
        let args = args.iter().map(String::as_str).chain(["--name=copy", "2", "data"]);
        sandbox.run(args.collect::<Vec<_>>()).refuses(status, why);
    };
    for directories in [["a", "a"], ["a", "a/"], ["a", "./a"], ["a/./b", "a/b"], ["a1", "a{peer}"]]
    {
        refuse(directories, 2, "--dir and --name give peers 0 and 1 the same path");
    }
    let is_one_place = "all peers would store in one place";
    refuse(["a", "b/../a"], 1, is_one_place);
    refuse(["b/../a", "c/../a"], 1, is_one_place);
    sandbox.directory("real");
    symlink("real", sandbox.path("link")).unwrap();
    for directories in [["real", "link"], ["real/new", "link/new"], ["real", "link/../real"]] {
        refuse(directories, 1, is_one_place);
    }
});

/// Runs three peers, two of which have good directories, as directories of a template and one by one.
fn fail_one(sandbox: &Sandbox, through: &[&str], why: &str) {
    let template: &[_] = &["--dir=to-{peer}"];
    for directories in [template, &["--dir=to-0", "--dir=to-1", "--dir=to-2"]] {
        let args = [directories, &["--name=copy", "3", "data"]].concat();
        let run = sandbox.with(args).through(through).run();
        run.loses(&[(1, why)], &paths_of([0, 2], |peer| format!("to-{peer}/copy")), b"contents");
        for good in ["to-0", "to-2"] {
            fs::remove_dir_all(sandbox.path(good)).unwrap();
        }
    }
}

both!(what_is_no_directory_fails_its_peer_only, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.file("to-1", b"mine");
    fail_one(sandbox, &[], r#"cannot open directory "to-1": Not a directory"#);
    assert_eq!(fs::read(sandbox.path("to-1")).unwrap(), b"mine");
    fs::remove_file(sandbox.path("to-1")).unwrap();
    symlink("nowhere", sandbox.path("to-1")).unwrap();
    fail_one(sandbox, &[], r#"cannot open directory "to-1": No such file or directory"#);
});

both!(a_directory_without_permission_fails_its_peer_only, |sandbox| {
    let Some(command) = heeding_permissions() else {
        return skip("a read-only destination", "root may write everywhere here");
    };
    sandbox.file("data", b"contents");
    let path = sandbox.directory("to-1");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o555)).unwrap();
    fail_one(sandbox, command, r#"cannot write to directory "to-1": Permission denied"#);
    // What can be written to, but not read, is all that a copy takes.
    fs::set_permissions(&path, PermissionsExt::from_mode(0o300)).unwrap();
    let args = ["--dir=to-{peer}", "--name=copy", "3", "data"];
    let run = sandbox.with(args).through(command).run();
    // Its contents cannot be listed by those who check this.
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(run.is_success(), "{}", run.stderr());
});

/// Runs three peers with a file system that is mounted on the directory of one.
fn fail_mounted(sandbox: &Sandbox, mount: &str, why: &str) {
    let contents = contents(1 << 20);
    sandbox.file("data", contents);
    sandbox.directory("to-1");
    let setup = format!("mount -t tmpfs -o {mount} tmpfs to-1");
    for own in ["--dir=to-{peer}", "--dir=to-0 --dir=to-1 --dir=to-2"] {
        let args =
            [&own.split(' ').collect::<Vec<_>>()[..], &["--name=copy", "3", "data"]].concat();
        let Some(run) = with_mounts(sandbox, &setup, &args) else { return };
        run.loses(&[(1, why)], &paths_of([0, 2], |peer| format!("to-{peer}/copy")), contents);
        for good in ["to-0", "to-2"] {
            fs::remove_dir_all(sandbox.path(good)).unwrap();
        }
    }
}

both!(a_read_only_disk_fails_its_peer_only, |sandbox| {
    fail_mounted(sandbox, "ro", r#"cannot write to directory "to-1": Read-only file system"#);
});

both!(a_disk_that_is_too_full_fails_its_peer_only, |sandbox| {
    fail_mounted(sandbox, "size=64k", r#"1 copy of 1.0 MiB needs 1.0 MiB, "to-1" has room for"#);
});

both!(a_disk_with_room_for_some_peers_serves_those, |sandbox| {
    let contents = contents(1 << 20);
    sandbox.file("data", contents);
    sandbox.directory("full");
    let setup = "mount -t tmpfs -o size=2500k tmpfs full && cd full && mkdir 0 2 3 && cd ..";
    let directories = ["--dir=full/0", "--dir=other", "--dir=full/2", "--dir=full/3"];
    let args = [&directories[..], &["--name=copy", "4", "data"]].concat();
    // The mount is gone with the run, so its copies are seen by the run's own end.
    let script = format!(
        "{setup} || exit 99\n\"$@\"; status=$?\ncmp full/0/copy data >&2; \
        cmp full/2/copy data >&2; ls full/3 >&2; exit $status"
    );
    let Some(command) = common::private_mounts() else {
        return skip("other mounts", "this user may not make any");
    };
    let run = sandbox.with(args).in_shell(&script).through(command).run();
    let (stdout, stderr) = (run.stdout(), run.stderr());
    assert_eq!(stdout, "full/0/copy\nother/copy\nfull/2/copy\n", "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].contains("peer 3 (pid "), "{stderr}");
    assert!(lines[0].contains(r#"3 copies of 1.0 MiB need 3.0 MiB, "full/3" has room for"#));
});

both!(all_that_is_wrong_is_told_at_once, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.file("file", b"mine");
    symlink("nowhere", sandbox.path("dangling")).unwrap();
    let args = ["--dir=file", "--dir=good", "--dir=dangling", "--name=copy", "3", "data"];
    let failed = [(0, r#""file": Not a directory"#), (2, r#""dangling": No such file"#)];
    sandbox.run(args).loses(&failed, &paths_of([1], |_| "good/copy"), b"contents");
});

both!(nothing_is_begun_if_no_directory_can_be_used, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.file("to-0", b"mine");
    sandbox.file("to-1", b"mine");
    let why = ["\"to-0\": Not a directory", "\"to-1\": Not a directory"];
    sandbox.run(["--dir=to-{peer}", "2", "data"]).refuses_each(&why);
    sandbox.run(["--dir=to-0", "--dir=to-1", "2", "data"]).refuses_each(&why);
    // Though one of them would have had to be made.
    let why = ["\"to-0\": Not a directory", "\"to-1/below\": Not a directory"];
    sandbox.run(["--dir=to-0", "--dir=to-1/below", "2", "data"]).refuses_each(&why);
    sandbox.run(["--dir=to-{peer}", "1", "data"]).refuses(1, "\"to-0\": Not a directory");
});

both!(a_report_names_the_peers_without_a_directory, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.file("to-1", b"mine");
    let run = sandbox.run(["--json", "-q", "--dir=to-{peer}", "--name=copy", "2", "data"]);
    let object: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    let peer = &object["peers"][1];
    assert_eq!((&peer["outcome"], &peer["error"]["errno"]), (&"failed".into(), &"ENOTDIR".into()));
    assert!(peer["pid"].as_u64().unwrap() > 0);
    let run = run.quietly().listing_itself();
    run.loses(&[(1, "Not a directory")], &paths_of([0], |_| "to-0/copy"), b"contents");

    sandbox.file("file", b"mine");
    let run = sandbox.run(["--json", "--dir=to-1", "--dir=file", "2", "data"]);
    let object: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.contains(r#"peer 0: cannot open directory "to-1""#), "{message}");
    assert!(message.contains(r#"peer 1: cannot open directory "file""#), "{message}");
    run.listing_itself().refuses_each(&["Not a directory"; 2]);
});

both!(a_stream_goes_to_those_that_have_a_directory, |sandbox| {
    sandbox.file("data", contents(4 << 20));
    sandbox.file("to-0", b"mine");
    let args = ["--dir=to-{peer}", "--name=copy", "3", "-"];
    let run = sandbox.with(args).in_shell(r#"exec "$@" <data"#).run();
    let paths = paths_of([1, 2], |peer| format!("to-{peer}/copy"));
    run.loses(&[(0, "Not a directory")], &paths, contents(4 << 20));
});
