//! Copies on other machines. The other machine is this one: rsync reaches it by a stand-in for ssh, mbuffer
//! by the loopback.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::{Result, ensure};

use crate::compare::cell::Cell;
use crate::compare::scene::{SOURCE, Scene};
use crate::compare::tool::{COPIES, Source, Tool, target};

/// Where mbuffer listens, in a network that nobody else is in: a port for each copy.
const PORT: usize = 4000;

/// Says that it was asked, and does here what it should do elsewhere.
const STAND_IN: &str = "#!/bin/sh\n: > asked\nshift\nexec \"$@\"\n";

pub(crate) fn reaches_others(scene: &Scene) -> Result<Cell> {
    if scene.tool == Tool::Mbuffer {
        return by_loopback(scene);
    }
    let ssh = scene.path("ssh");
    fs::write(&ssh, STAND_IN)?;
    fs::set_permissions(&ssh, Permissions::from_mode(0o700))?;
    let elsewhere = format!("localhost:{}", scene.path("").display());
    let invocations = scene.tool.invocations(&[], Source::File(SOURCE), &elsewhere);
    // The stand-in is found before ssh.
    let path = std::env::var("PATH")?;
    let with_path = |words: &Vec<String>| {
        let begin = ["env".to_owned(), format!("PATH={}:{path}", scene.path("").display())];
        [&begin, &words[..]].concat()
    };
    let invocations: Vec<_> = invocations.iter().map(with_path).collect();
    scene.start_all(&invocations, || scene.standard_input())?.wait()?;
    Ok(Cell::of(scene.path("asked").exists() && scene.are_whole()?, None))
}

fn by_loopback(scene: &Scene) -> Result<Cell> {
    let up = scene.run_other(&["ip", "link", "set", "lo", "up"])?;
    ensure!(up.is_success(), "there is no loopback: {}", up.stderr);
    let receivers = (0..COPIES).map(|number| {
        let port = (PORT + number).to_string();
        ["mbuffer", "-I", &port, "-o", &target(number)].map(str::to_owned).to_vec()
    });
    let mut running = scene.start_all(&receivers.collect::<Vec<_>>(), || Ok(Stdio::null()))?;
    ensure!(running.come_to(are_listening)?, "mbuffer does not listen");
    let to =
        (0..COPIES).flat_map(|number| ["-O".to_owned(), format!("127.0.0.1:{}", PORT + number)]);
    let sender = ["mbuffer", "-i", SOURCE].map(str::to_owned).into_iter().chain(to);
    running.started.extend(scene.start_all(&[sender.collect()], || Ok(Stdio::null()))?.started);
    running.wait()?;
    Ok(Cell::of(scene.are_whole()?, Some("-O")))
}

/// Whether all receivers wait for somebody to connect.
fn are_listening() -> Result<bool> {
    const LISTENING: &str = "0A";
    let sockets = fs::read_to_string("/proc/thread-self/net/tcp")?
        + &fs::read_to_string("/proc/thread-self/net/tcp6")?;
    let is_listening = |line: &&str| line.split_whitespace().nth(3) == Some(LISTENING);
    Ok(sockets.lines().filter(is_listening).count() >= COPIES)
}
