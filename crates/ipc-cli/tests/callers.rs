//! Whoever calls the programs, and from wherever: pipelines, cron, sudo, a user without rights, a
//! container's little shared memory, any working directory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use common::mounts::with_mounts;
use common::paths::{default_paths, numbered, paths_of};
use common::run::assert_same;
use common::{BLOCK, Sandbox, both, contents, skip};

const SIZE: usize = 3 * BLOCK + 7;
/// A user and a group that own nothing.
const NOBODY: u32 = 65_534;

both!(a_pipeline_takes_as_many_paths_as_it_likes, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let script = r#""$@" | head -n 1"#;
    let run = sandbox.with(["--name={peer}", "3", "data"]).in_shell(script).run().listing_itself();
    assert_eq!(run.stdout(), "received-files/0\n");
    run.stores(&numbered(0..3), contents(SIZE));
});

both!(substitution_and_loops_of_a_shell_take_the_paths, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let script = r#"for path in $("$@"); do wc -c < "$path"; done"#;
    let run = sandbox.with(["--name={peer}", "2", "data"]).in_shell(script).run().listing_itself();
    assert_eq!(run.stdout(), format!("{SIZE}\n{SIZE}\n"));
    run.stores(&numbered(0..2), contents(SIZE));
});

both!(cron_has_no_terminal_and_hardly_an_environment, |sandbox| {
    let source = sandbox.file("data", contents(SIZE));
    let directory = sandbox.path("received-files");
    let cron = ["env", "-i", "HOME=/", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", "sh", "-c"];
    let script = r#"cd / && exec "$@""#;
    let dir = format!("--dir={}", directory.display());
    let args = [dir.as_str(), "--name={peer}", "3", source.to_str().unwrap()];
    let run = sandbox.with(args).through(&[&cron[..], &[script, "sh"]].concat()).run();
    let paths = paths_of(0..3, |peer| format!("{}/{peer}", directory.display()));
    run.stores(&paths, contents(SIZE));
});

/// Gives the sandbox to a user without rights, who can get at nothing else; says no if that cannot be done.
fn give_away(sandbox: &Sandbox) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("another user", "only root can become one");
        return false;
    }
    fs::set_permissions(sandbox.root(), fs::Permissions::from_mode(0o755)).unwrap();
    for path in [sandbox.path(""), sandbox.root().join("tmp"), sandbox.path("data")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // Where a build is may be closed to that user.
    let program = sandbox.path("program");
    fs::copy(sandbox.program_path(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    true
}

both!(a_user_without_rights, |sandbox| {
    sandbox.file("data", contents(SIZE));
    if !give_away(sandbox) {
        return;
    }
    let setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let bounded = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
    let script = r#"shift; exec ./program "$@""#;
    let command = [&setpriv[..], &bounded, &["sh", "-c", script, "sh"]].concat();
    let options: [&[&str]; 3] = [&[], &["--verify", "--sync", "--preserve"], &["--no-clobber"]];
    for options in options {
        let args = [options, &["3", "data"]].concat();
        let run = sandbox.with(args).through(&command).run();
        run.stores_what(&default_paths(3, "data"), |path| {
            assert_same(path, contents(SIZE));
            let owner = path.metadata().unwrap();
            assert_eq!((owner.uid(), owner.gid()), (NOBODY, NOBODY));
        });
    }
    let run = sandbox.with(["--dir=/", "3", "data"]).through(&command).run();
    run.refuses(1, "Permission denied");
});

both!(sudo_runs_them, |sandbox| {
    sandbox.file("data", contents(SIZE));
    if !common::succeeds(&["sudo", "--non-interactive"], "true") {
        skip("sudo", "it is not here, or asks for a password");
        return;
    }
    let run = sandbox.with(["3", "data"]).through(&["sudo", "--non-interactive"]).run();
    run.stores(&default_paths(3, "data"), contents(SIZE));
});

both!(a_container_has_64_mib_of_shared_memory, |sandbox| {
    let contents = contents(16 << 20);
    sandbox.file("data", contents);
    let setup = "mount -t tmpfs -o size=64m tmpfs /dev/shm";
    let args = ["--name={peer}", "40", "data"];
    let Some(run) = with_mounts(sandbox, setup, &args) else { return };
    run.stores(&numbered(0..40), contents);
});

both!(any_path_from_any_directory, |sandbox| {
    let contents = contents(SIZE);
    let place = sandbox.directory("a place with  spaces");
    fs::write(place.join("the data"), contents).unwrap();
    let absolute = place.to_str().unwrap().to_owned();
    let file = |path: &str| format!("{path}/the data");
    for (directory, source, dir, at) in [
        (".", file("a place with  spaces"), "received", "received".to_owned()),
        ("a place with  spaces", file("."), "../received", "../received".to_owned()),
        ("a place with  spaces", file("../a place with  spaces"), "x y", "x y".to_owned()),
        ("/", file(&absolute), &file(&absolute).replace("the data", "z"), format!("{absolute}/z")),
    ] {
        let script = format!(r#"cd "{directory}" && exec "$@""#);
        let args = ["--dir", dir, "--name={peer}-{name}", "2", &source];
        let run = sandbox.with(args).in_shell(&script).run().listing_itself();
        let said = |peer| format!("{at}/{peer}-the data");
        assert_eq!(run.stdout(), format!("{}\n{}\n", said(0), said(1)));
        let path = |peer| PathBuf::from(directory).join(said(peer)).to_str().unwrap().to_owned();
        run.stores(&paths_of(0..2, path), contents);
    }
});
