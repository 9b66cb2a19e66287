//! What is found under the names of the copies while they are made, and what a killed run leaves.

use std::fs::{self, File};
use std::io::Read;

use anyhow::{Result, ensure};

use crate::compare::cell::Cell;
use crate::compare::scene::Scene;
use crate::compare::tool::{COPIES, Wish};

/// What stands under the first copy's name before.
const OLDER: &str = "older";

/// In mid-copy, nothing may stand under a new name, and what was there under an old one; and who has that
/// open reads it to the end.
pub(crate) fn are_whole(scene: &Scene) -> Result<Cell> {
    fs::write(scene.target(0), OLDER)?;
    let mut older = File::open(scene.target(0))?;
    let option = scene.tool.option(Wish::Replace);
    let held = scene.hold(option.as_slice())?;
    let is_older = fs::read(scene.target(0))? == OLDER.as_bytes();
    let are_new = (1..COPIES).any(|number| scene.target(number).exists());
    ensure!(held.finish()?.is_success() && scene.are_whole()?, "it fails where it should not");
    let mut kept = Vec::new();
    older.read_to_end(&mut kept)?;
    Ok(Cell::of(is_older && !are_new && kept == OLDER.as_bytes(), option))
}

/// All its processes are killed.
pub(crate) fn leaves_nothing(scene: &Scene) -> Result<Cell> {
    scene.hold(&[])?.running.kill()?;
    let mut left = 0;
    for number in 0..COPIES {
        left += fs::read_dir(scene.path(number.to_string()))?.count();
    }
    Ok(Cell::of(left == 0, None))
}
