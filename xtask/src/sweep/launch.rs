//! One run under strace, from start to end.
//!
//! strace counts the calls of each process that it traces, so the `n`-th call of all of them is hit. To
//! aim at the server alone, strace does not follow forks. To aim at one child alone, strace is
//! attached to it at its birth (`attach.rs`).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::case::{Case, Source};
use super::point::Target;
use crate::build::Program;
use crate::place::Place;
use crate::session::Session;
use crate::{attach, trace};

/// A run that takes longer hangs.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How long a slow stream has nothing to read: more than the half second after which progress is shown.
const SLOW: Duration = Duration::from_millis(800);

/// How long anything of a run may outlast its server.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Whom to trace, which calls, and what to do to them.
#[derive(Debug)]
pub(crate) struct Aim<'a> {
    pub(crate) program: Program,
    pub(crate) case: &'a Case,
    pub(crate) target: Target,
    /// The calls to trace; `None` for all.
    pub(crate) call: Option<&'a str>,
    /// As strace takes it.
    pub(crate) injection: Option<String>,
}

/// What is left when a run is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it hung and was killed.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) log: String,
    /// The directory of the run.
    pub(crate) scene: PathBuf,
    /// Processes that were left, in words.
    pub(crate) processes: Vec<String>,
}

/// Runs the program and waits until nothing of it is left, or for as long as something may be.
pub(crate) fn launch(place: &Place, aim: &Aim<'_>) -> Result<Ended> {
    let scene = place.new_scene()?;
    aim.case.prepare(&scene)?;
    let log = place.path("log");
    let birth = aim.target.birth(aim.program, aim.case);
    // Only calls that are traced can be hit, and of two injections of a call the last one counts.
    let always = aim.case.always.filter(|&(call, _)| aim.call != Some(call));
    let traced =
        aim.call.map(|call| always.map_or(call.to_owned(), |(other, _)| format!("{call},{other}")));
    let always = always.map(|(call, fault)| format!("{call}:{fault}"));
    let injections: Vec<_> =
        always.as_deref().into_iter().chain(aim.injection.as_deref()).collect();
    let options = trace::options(&log, traced.as_deref(), &injections);
    let births = place.path("births");
    let own = match birth {
        Some(_) => attach::at_birth(&births),
        None if aim.target == Target::Together => [&["-f".to_owned()], &options[..]].concat(),
        None => options.clone(),
    };
    for path in [&log, &births] {
        File::create(path)?;
    }
    let mut server = start(place, &scene, aim, &own)?;
    let session = Session::of(server.id(), &scene)?;
    let is_slow = aim.case.source == Source::SlowStream;
    let feeder = server.stdin.take().map(|mut pipe| {
        let data = scene.join("data");
        thread::spawn(move || -> Result<()> {
            let bytes = fs::read(data)?;
            let (first, last) = bytes.split_at(if is_slow { bytes.len() / 2 } else { 0 });
            pipe.write_all(first)?;
            if is_slow {
                thread::sleep(SLOW);
            }
            Ok(pipe.write_all(last)?)
        })
    });

    let deadline = Instant::now() + WATCHDOG;
    let attached = birth
        .map(|birth| attach::to_child(&births, birth, &options, server.id(), &session, deadline));
    let tracer = match attached.transpose() {
        Ok(tracer) => tracer.flatten(),
        Err(error) => {
            session.kill_leader()?;
            server.wait()?;
            session.kill_orphans()?;
            return Err(error);
        }
    };
    let has_ended = session.await_leader(deadline)?;
    if !has_ended {
        session.kill_leader()?;
    }
    let status = server.wait()?;
    let processes = await_others(&session, status)?;
    if let Some(mut tracer) = tracer {
        tracer.wait()?;
    }
    if let Some(feeder) = feeder {
        // A run that fails reads no further.
        let _ = feeder.join();
    }
    let text =
        |name| fs::read(place.path(name)).map(|it| String::from_utf8_lossy(&it).into_owned());
    Ok(Ended {
        status: has_ended.then_some(status),
        stdout: text("stdout")?,
        stderr: text("stderr")?,
        log: text("log")?,
        scene,
        processes,
    })
}

fn start(place: &Place, scene: &Path, aim: &Aim<'_>, strace: &[String]) -> Result<Child> {
    let is_stream = aim.case.source.is_stream();
    Command::new("setsid")
        .args(["strace", "-D"])
        .args(strace)
        .arg(aim.program.path())
        .args(aim.case.args())
        .current_dir(scene)
        // What cargo puts into it would make the loader search, and count calls that are not ours.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(if is_stream { Stdio::piped() } else { Stdio::null() })
        .stdout(File::create(place.path("stdout"))?)
        .stderr(File::create(place.path("stderr"))?)
        .spawn()
        .context("cannot start setsid")
}

/// Waits for what outlives the server, and says what should not have.
fn await_others(session: &Session, status: ExitStatus) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if status.code().is_some() {
        let mut left = session.orphans()?;
        left.retain(|orphan| !(orphan.is_tracer || orphan.is_apart));
        let left = left.iter();
        found.extend(left.map(|orphan| format!("process {} was not waited for", orphan.pid)));
    }
    let left = session.await_orphans(Instant::now() + AFTERWARDS, |orphan| !orphan.is_tracer)?;
    found.extend(left.iter().map(|orphan| format!("process {} lives on", orphan.pid)));
    if left.is_empty() {
        // strace ends after its last process, and then its log is whole.
        session.await_orphans(Instant::now() + WATCHDOG, |_| true)?;
    }
    session.kill_orphans()?;
    Ok(found)
}
