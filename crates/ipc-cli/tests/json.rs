//! `--json`: one object that follows docs/report.schema.json, on success and on failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use common::paths::numbered;
use common::paused::{Fifo, stop};
use common::run::Run;
use common::{BEYOND_ALL_BUFFERS, BLOCK, both, contents};
use jsonschema::Validator;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

const SIZE: usize = 5 * BLOCK + 7;

/// Validates by the schema, and takes no field that it does not describe.
fn validator() -> Validator {
    let mut schema =
        serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    close(&mut schema);
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Allows no other properties where there are properties of an object.
fn close(schema: &mut Value) {
    let is_whole =
        |schema: &Value| schema["properties"].is_object() && schema["required"].is_array();
    if is_whole(schema) {
        schema["additionalProperties"] = json!(false);
    }
    let fields = schema.as_object_mut().into_iter().flatten();
    fields.for_each(|(_, field)| close(field));
}

/// The one object that a run printed, which follows the schema and says what the exit status says.
fn object(run: &Run<'_>) -> Value {
    let stdout = run.stdout();
    assert_eq!(stdout.matches('\n').count(), 1, "{stdout}");
    let object: Value = serde_json::from_str(&stdout).unwrap();
    let validator = validator();
    let errors: Vec<_> = validator.iter_errors(&object).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {stdout}");
    assert_eq!(object["success"], json!(run.is_success()), "{stdout}");
    object
}

/// The same field of every peer.
fn of_peers(object: &Value, field: &str) -> Vec<Value> {
    object["peers"].as_array().unwrap().iter().map(|peer| peer[field].clone()).collect()
}

both!(all_that_a_run_has_come_to, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let digest = blake3::hash(contents).to_hex().to_string();
    for (options, digest) in
        [(&[][..], None), (&["--verify", "--sync", "--preserve"], Some(digest))]
    {
        let args = [options, &["--json", "--name={peer}", "2", "data"]].concat();
        let run = sandbox.run(args).listing_itself();
        let object = object(&run);
        assert_eq!(object["program"], sandbox.program());
        let source = json!({"path": "data", "path_base64": null, "kind": "file", "bytes": SIZE});
        assert_eq!(object["source"], source);
        assert_eq!(object["digest"], json!(digest));
        let settings = match sandbox.is_sharedmem() {
            true => {
                json!({"name": "sharedmem", "on_slow": "detach", "block_size": BLOCK, "blocks": 32})
            }
            false => json!({"name": "socket", "on_slow": "detach"}),
        };
        assert_eq!(object["transport"], settings);
        assert!(object["rate"].as_f64().unwrap() > 0.0);
        assert_eq!(of_peers(&object, "peer"), [0, 1]);
        assert_eq!(of_peers(&object, "path"), ["received-files/0", "received-files/1"]);
        assert_eq!(of_peers(&object, "bytes"), [SIZE, SIZE]);
        assert_eq!(of_peers(&object, "digest"), [json!(digest), json!(digest)]);
        let seconds = object["seconds"].as_f64().unwrap();
        let within = |peer: &Value| peer.as_f64().unwrap() <= seconds;
        assert!(of_peers(&object, "seconds").iter().all(within));
        run.stores(&numbered(0..2), contents);
    }
});

both!(a_stream_has_the_length_that_was_read, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let run = sandbox.with(["--json", "--name={peer}", "--on-slow=drop", "2", "-"]);
    let run = run.in_shell(r#"exec "$@" < data"#).run().listing_itself();
    let object = object(&run);
    let source = json!({"path": "-", "path_base64": null, "kind": "stream", "bytes": SIZE});
    assert_eq!(object["source"], source);
    assert_eq!(object["transport"]["on_slow"], "drop");
    run.stores(&numbered(0..2), contents);

    sandbox.file("empty", b"");
    let run = sandbox.with(["--json", "--name={peer}", "2", "-"]);
    let run = run.in_shell(r#"exec "$@" < empty"#).run().listing_itself();
    let object = self::object(&run);
    assert_eq!((&object["source"]["bytes"], &object["rate"]), (&json!(0), &json!(0.0)));
    assert_eq!(object["transport"]["on_slow"], "wait");
    run.stores(&numbered(0..2), b"");
});

both!(paths_that_are_not_utf8_are_lossless, |sandbox| {
    sandbox.file(OsStr::from_bytes(b"caf\xe9"), contents(SIZE));
    let args = ["--json", "--name={peer}-{name}", "1"].map(OsStr::new);
    let run = sandbox.run([&args[..], &[OsStr::from_bytes(b"caf\xe9")]].concat()).listing_itself();
    let object = object(&run);
    assert_eq!(object["source"]["path"], "caf\u{fffd}");
    assert_eq!(object["source"]["path_base64"], "Y2Fm6Q==");
    assert_eq!(object["peers"][0]["path"], "received-files/0-caf\u{fffd}");
    assert_eq!(object["peers"][0]["path_base64"], "cmVjZWl2ZWQtZmlsZXMvMC1jYWbp");
    run.stores(&[b"received-files/0-caf\xe9".to_vec()], contents(SIZE));
});

both!(nothing_in_an_object_commands_a_terminal, |sandbox| {
    let run = sandbox.run(["--json", "1", "\u{9b}31m\u{202e}\u{7f}"]).listing_itself();
    assert!(run.stdout().is_ascii(), "{}", run.stdout());
    let object = object(&run);
    assert_eq!(object["source"]["path"], "\u{9b}31m\u{202e}\u{7f}");
    run.refuses(1, "No such file or directory");
});

both!(a_peer_that_failed_says_why, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.directory("received-files");
    sandbox.file("received-files/1", b"precious");
    let run = sandbox.run(["--json", "--no-clobber", "--name={peer}", "3", "data"]);
    let run = run.listing_itself();
    let object = object(&run);
    assert_eq!(object["error"], Value::Null);
    assert_eq!(of_peers(&object, "outcome"), ["stored", "failed", "stored"]);
    let message = r#"cannot store "received-files/1": File exists"#;
    let error = json!({"message": message, "errno": "EEXIST"});
    assert_eq!(of_peers(&object, "error"), [Value::Null, error, Value::Null]);
    run.loses(&[(1, "File exists")], &numbered([0, 2]), contents(SIZE));
});

both!(a_peer_that_failed_after_its_file_had_its_name_has_a_path, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let bad = sandbox.directory("to-1");
    for (option, inject) in [
        ("--sync", "inject=fsync:error=EIO"),
        ("--sync", "inject=fsync:signal=KILL"),
        ("--preserve", "inject=linkat:signal=TERM:when=2"),
    ] {
        let how = ["-P", bad.to_str().unwrap(), "-e", inject];
        let args = ["--json", option, "--dir=to-{peer}", "--name={name}", "3", "data"];
        let Some(invocation) = sandbox.with(args).tampered(&how) else { return };
        let run = invocation.run().listing_itself();
        let object = object(&run);
        assert_eq!(of_peers(&object, "outcome"), ["stored", "failed", "stored"], "{object}");
        assert_eq!(of_peers(&object, "path"), ["to-0/data", "to-1/data", "to-2/data"]);
        assert_eq!(of_peers(&object, "bytes"), [SIZE; 3]);
        let why = object["peers"][1]["error"]["message"].as_str().unwrap();
        assert!(why.starts_with(r#""to-1/data" is stored, but "#), "{why}");
        let all = [0, 1, 2].map(|peer| format!("to-{peer}/data"));
        all.iter().for_each(|path| common::run::assert_same(&sandbox.path(path), contents));
        all.iter().for_each(|path| std::fs::remove_file(sandbox.path(path)).unwrap());
    }
});

both!(a_killed_peer_tells_how_far_it_came, |sandbox| {
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["--json", "--name={peer}", "2", "fifo"]).start();
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    let (first, rest) = contents.split_at(BEYOND_ALL_BUFFERS);
    fifo.feed(&running, first);
    let slow = running.children()[1];
    stop(&[slow]);
    kill_process(slow, Signal::KILL).unwrap();
    fifo.feed(&running, rest);
    drop(fifo);
    let run = running.finish().listing_itself();
    let object = object(&run);
    let bytes: Vec<_> =
        of_peers(&object, "bytes").iter().map(|bytes| bytes.as_u64().unwrap()).collect();
    let (all, some) = (contents.len() as u64, first.len() as u64);
    assert!(bytes[0] == all && 0 < bytes[1] && bytes[1] <= some, "{bytes:?}");
    run.loses(&[(1, "killed by SIGKILL")], &numbered([0]), contents);
});

both!(a_run_that_never_began_says_why, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let run = sandbox.run(["--json", "2", "missing"]).listing_itself();
    let object = object(&run);
    let message = r#"cannot open "missing": No such file or directory"#;
    assert_eq!(object["error"], json!({"message": message, "errno": "ENOENT"}));
    let source = json!({"path": "missing", "path_base64": null, "kind": null, "bytes": null});
    assert_eq!((&object["source"], &object["peers"]), (&source, &json!([])));
    run.refuses(1, message);

    sandbox.file("file", b"no directory");
    let run = sandbox.run(["--json", "--dir=file", "2", "data"]).listing_itself();
    let object = self::object(&run);
    assert_eq!(
        (&object["source"]["bytes"], &object["error"]["errno"]),
        (&json!(SIZE), &json!("ENOTDIR"))
    );
    run.refuses(1, "Not a directory");
});

both!(a_source_that_changed_is_the_runs_error, |sandbox| {
    sandbox.directory("received-files");
    let source = sandbox.file("data", contents(32 << 20));
    let args = ["--json", "--on-slow=wait", "--name={peer}", "2", "data"];
    let invocation = || sandbox.with(args);
    let (mut running, peers) = common::paused::stop_peers_midway(2, 32 << 20, invocation);
    std::fs::write(&source, b"other contents").unwrap();
    running.accept_change_of(&source);
    peers.into_iter().for_each(common::paused::resume);
    let run = running.finish().listing_itself();
    let object = object(&run);
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.contains("changed while it was copied"), "{message}");
    assert_eq!(of_peers(&object, "outcome"), ["failed", "failed"]);
    run.gives_up(2, "changed while it was copied");
});

both!(a_manifest_that_cannot_be_written_is_the_runs_error, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let args = ["--json", "--verify", "--manifest=/dev/full", "--name={peer}", "2", "data"];
    let run = sandbox.run(args).listing_itself();
    let object = object(&run);
    assert_eq!(object["error"]["errno"], "ENOSPC");
    assert_eq!(of_peers(&object, "outcome"), ["stored", "stored"]);
    run.stores_but(
        &numbered(0..2),
        contents(SIZE),
        r#"cannot write to "/dev/full": No space left"#,
    );
});

both!(an_object_that_cannot_be_delivered_is_a_failure, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let script = r#"exec "$@" > /dev/full"#;
    let run = sandbox.with(["--json", "--name={peer}", "2", "data"]).in_shell(script).run();
    let run = run.listing_itself();
    run.loses_its_report(&numbered(0..2), contents(SIZE), "No space left on device");
});

both!(wrong_arguments_print_no_object, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.run(["--json", "0", "data"]).refuses(2, "invalid value '0'");
    sandbox.run(["--json", "-0", "2", "data"]).refuses(2, "'--json' cannot be used with '--null'");
    sandbox.run(["--json=yes", "2", "data"]).refuses(2, "unexpected value 'yes' for '--json'");
});

both!(a_full_shared_memory_has_its_errno_beside_the_advice, |sandbox| {
    sandbox.file("data", contents(1 << 20));
    let setup = "mount -t tmpfs -o size=64k tmpfs /dev/shm";
    let args = ["--json", "--name={peer}", "2", "data"];
    let Some(run) = common::mounts::with_mounts(sandbox, setup, &args) else { return };
    let run = run.listing_itself();
    let object = object(&run);
    if sandbox.is_sharedmem() {
        assert_eq!(object["error"]["errno"], "ENOSPC");
        assert!(object["error"]["message"].as_str().unwrap().contains("use a smaller --blocks"));
        run.refuses(1, "use a smaller --blocks");
    } else {
        run.stores(&numbered(0..2), contents(1 << 20));
    }
});

#[test]
fn an_object_that_is_wrong_is_found() {
    let validator = validator();
    assert!(!validator.is_valid(&json!({"schema": 1, "program": "tee"})));
    let error = json!({"message": "cannot", "errno": null});
    let source = json!({"path": "-", "path_base64": null, "kind": null, "bytes": null});
    let transport = json!({"name": "socket", "on_slow": "wait"});
    let right = json!({
        "schema": 1, "program": "socket", "version": "1", "success": false, "source": source,
        "digest": null, "seconds": 0.1, "rate": 0.0, "transport": transport, "error": error, "peers": [],
    });
    assert!(validator.is_valid(&right));
    for (field, value) in [
        ("more", json!(1)),
        ("success", json!(true)),
        ("digest", json!("00")),
        ("error", json!({"message": "two\nlines", "errno": null})),
        ("transport", json!({"name": "sharedmem", "on_slow": "wait"})),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

/// The names of all fields in a part of the schema, as docs/json.md writes them.
fn fields(schema: &Value, prefix: &str) -> Vec<String> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .flat_map(|(name, field)| {
            let path = format!("{prefix}{name}");
            let inner = fields(field, &format!("{path}."));
            let items = fields(&field["items"], &format!("{path}[]."));
            [vec![path], inner, items].concat()
        })
        .collect()
}

#[test]
fn every_field_is_documented_and_no_other() {
    let schema = serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    let mut expected = fields(&schema, "");
    expected.extend(["error.message", "error.errno"].map(Into::into));
    let rows = include_str!("../../../docs/json.md").lines();
    let mut documented: Vec<String> = rows
        .filter_map(|row| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    documented.sort();
    expected.sort();
    assert_eq!(documented, expected);
}
