//! What a tool offers beside the bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Result, ensure};

use crate::compare::cell::Cell;
use crate::compare::scene::{SOURCE, SOURCE_BYTES, Scene};
use crate::compare::tool::{COPIES, Source, Tool, Wish, target};

/// The copies are spoilt in the middle of the run.
pub(crate) fn verifies(scene: &Scene) -> Result<Cell> {
    let option = scene.tool.option(Wish::Verify);
    let held = scene.hold(option.as_slice())?;
    held.spoil_copies()?;
    if !held.finish()?.is_success() {
        return Ok(Cell::of(true, option));
    }
    ensure!(!scene.are_whole()?, "the copies were not spoilt");
    Ok(match scene.tool {
        Tool::Dcfldd => {
            let verify = format!("vf={}", target(0));
            let ended = scene.run_other(&["dcfldd", &format!("if={SOURCE}"), &verify])?;
            // Its exit status is 0 all the same.
            ensure!(ended.stderr.contains("Mismatch"), "nothing was found");
            Cell::Partly("a second run, `vf=`")
        }
        Tool::Rsync => {
            ensure!(scene.run(&["-c"])?.is_success() && scene.are_whole()?, "nothing was found");
            Cell::Partly("a second run, `-c`")
        }
        _ => Cell::No,
    })
}

pub(crate) fn keeps_holes(scene: &Scene) -> Result<Cell> {
    let option = scene.tool.option(Wish::Holes);
    ensure!(scene.run(option.as_slice())?.is_success() && scene.are_whole()?, "it fails");
    let mut blocks = Vec::new();
    for number in 0..COPIES {
        blocks.push(fs::metadata(scene.target(number))?.blocks());
    }
    let is_sparse = |&blocks: &u64| blocks * 512 < SOURCE_BYTES * 3 / 4;
    Ok(Cell::of(blocks.iter().all(is_sparse), option))
}

pub(crate) fn keeps_mode_and_time(scene: &Scene) -> Result<Cell> {
    let option = scene.tool.option(Wish::ModeAndTime);
    ensure!(scene.run(option.as_slice())?.is_success(), "it fails");
    let source = fs::metadata(scene.path(SOURCE))?;
    let mut keeps = true;
    for number in 0..COPIES {
        let copy = fs::metadata(scene.target(number))?;
        keeps &= copy.permissions().mode() == source.permissions().mode();
        keeps &= copy.modified()? == source.modified()?;
    }
    Ok(Cell::of(keeps, option))
}

pub(crate) fn copies_directory(scene: &Scene) -> Result<Cell> {
    fs::create_dir(scene.path("files"))?;
    fs::write(scene.path("files/file"), "within")?;
    let option = scene.tool.option(Wish::Directory);
    // rsync copies what is within a directory if its name ends so, and to the others it is the same.
    let invocations = scene.tool.invocations(option.as_slice(), Source::File("files/"), "");
    let input = || Ok(File::open(scene.path("files"))?.into());
    scene.start_all(&invocations, input)?.wait()?;
    let is_copied =
        |number| fs::read(scene.target(number).join("file")).is_ok_and(|it| it == b"within");
    Ok(Cell::of((0..COPIES).all(is_copied), option))
}

/// A few bytes, which a FIFO holds until they are read.
pub(crate) fn feeds_programs(scene: &Scene) -> Result<Cell> {
    fs::write(scene.path(SOURCE), "few")?;
    let mut fifos = Vec::new();
    for number in 0..COPIES {
        fifos.push(scene.make_fifo(&scene.target(number))?);
    }
    let option = scene.tool.option(Wish::Replace);
    scene.run(option.as_slice())?;
    let is_fed = |mut fifo: File| {
        let mut bytes = [0; 10];
        fifo.read(&mut bytes).is_ok_and(|length| &bytes[..length] == b"few")
    };
    Ok(Cell::of(fifos.into_iter().all(is_fed), option))
}

/// Something is drawn again and again while a file is copied, or told while a stream comes.
pub(crate) fn shows_progress(scene: &Scene) -> Result<Cell> {
    let option = scene.tool.option(Wish::Progress);
    let is_drawn = |said: &str| said.contains(['\r', '\x1b']);
    let ended = scene.run(option.as_slice())?;
    if is_drawn(&ended.stdout) || is_drawn(&ended.stderr) {
        return Ok(Cell::of(true, option));
    }
    for number in 0..COPIES {
        fs::remove_file(scene.target(number))?;
    }
    let (running, mut writer) = scene.start_stream(option.as_slice())?;
    let half = File::open(scene.path(SOURCE))?.take(SOURCE_BYTES / 2);
    // Who takes no stream ends at once.
    let _ = io::copy(&mut { half }, &mut writer).and_then(|_| writer.flush());
    // A rate, which at the end would be a summary.
    let is_told = |said: &str| is_drawn(said) || said.contains("/s");
    let is_shown = running.come_to(|| Ok(is_told(&running.said()?)))?;
    drop(writer);
    running.wait()?;
    Ok(Cell::of(is_shown, option))
}

pub(crate) fn reports_json(scene: &Scene) -> Result<Cell> {
    let option = scene.tool.option(Wish::Json);
    let ended = scene.run(option.as_slice())?;
    let report = serde_json::from_str::<serde_json::Value>(&ended.stdout);
    Ok(Cell::of(report.is_ok_and(|report| report.is_object()), option))
}
