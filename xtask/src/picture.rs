//! The picture of `--progress` in README.md: what a terminal shows while a copy goes on in which one peer
//! was killed and one is stopped.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};

use crate::build::{self, Program};
use crate::{files, installed, processes};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the picture goes
    #[arg(long, value_name = "FILE", default_value = "docs/progress.svg")]
    output: String,
}

const COLUMNS: u16 = 88;
const ROWS: u16 = 7;
const PEERS: usize = 5;

/// Bytes of the source: enough to last until the picture is taken.
const SOURCE_BYTES: u64 = 1 << 30;

/// The share that is done when it is taken.
const MOMENT: &str = " 4";

/// Width and height of a character, in pixels.
const CELL: (f32, f32) = (8.4, 18.0);

/// Runs `sharedmem` on a terminal, and draws what that shows.
pub(crate) fn run(args: &Args) -> Result<()> {
    installed::require(&["script", "stty"])?;
    build::build()?;
    let place = tempfile::Builder::new().prefix("picture-").tempdir()?;
    files::write_source(&place.path().join("model.bin"), SOURCE_BYTES)?;
    let screen = take(place.path());
    processes::end_all()?;
    fs::write(&args.output, svg(screen?.screen()))
        .with_context(|| format!("cannot write {:?}", args.output))
}

/// The screen as it is when the copy is well on its way.
fn take(place: &Path) -> Result<vt100::Parser> {
    let program = Program::SharedMemory.path();
    let run = format!(
        "stty cols {COLUMNS} rows {ROWS}; exec {} --verify {PEERS} model.bin",
        program.display()
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--flush", "--command", &run, "/dev/null"])
        .current_dir(place)
        .env("TERM", "xterm-256color")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run script, which makes a terminal")?;
    let mut output = script.stdout.take().context("script has no output")?;
    let mut screen = vt100::Parser::new(ROWS, COLUMNS, 0);
    let mut harmed = false;
    let mut bytes = [0; 4096];
    loop {
        let read = output.read(&mut bytes)?;
        ensure!(read > 0, "the copy ended before its picture was taken");
        screen.process(&bytes[..read]);
        let total = screen.screen().contents_between(ROWS - 2, 0, ROWS, 0);
        if !harmed && total.contains('%') {
            harm(script.id())?;
            harmed = true;
        }
        let percent = total.split("] ").last().and_then(|text| text.split_once('%'));
        if percent.is_some_and(|(percent, _)| percent.starts_with(MOMENT)) {
            return Ok(screen);
        }
    }
}

/// Kills one peer and stops another one.
fn harm(script: u32) -> Result<()> {
    let [program] = processes::children(script)?[..] else {
        anyhow::bail!("script has not started one program");
    };
    let peers = processes::children(program)?;
    ensure!(peers.len() == PEERS, "{} peers, not {PEERS}", peers.len());
    kill_process(processes::id(peers[1])?, Signal::STOP)?;
    processes::kill(peers[3])
}

/// The picture of a screen.
fn svg(screen: &vt100::Screen) -> String {
    let (width, height) = (f32::from(COLUMNS) * CELL.0 + 24.0, f32::from(ROWS) * CELL.1 + 24.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1f2328\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,monospace\" font-size=\"14\" xml:space=\"preserve\">\n"
    );
    for row in 0..ROWS {
        let (mut column, y) = (0, 12.0 + CELL.1 * (f32::from(row) + 0.75));
        while column < COLUMNS {
            let colour = colour(screen, row, column);
            let end = (column..COLUMNS).find(|&at| self::colour(screen, row, at) != colour);
            let end = end.unwrap_or(COLUMNS);
            let text = screen.contents_between(row, column, row, end);
            let (x, text) =
                (12.0 + CELL.0 * f32::from(column), text.trim_end().replace('>', "&gt;"));
            if !text.is_empty() {
                let length = CELL.0 * text.replace("&gt;", ">").chars().count() as f32;
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\" textLength=\"{length:.1}\">{text}</text>"
                );
            }
            column = end;
        }
    }
    svg + "</g>\n</svg>\n"
}

/// The colour of a character.
fn colour(screen: &vt100::Screen, row: u16, column: u16) -> &'static str {
    match screen.cell(row, column).map(vt100::Cell::fgcolor) {
        Some(vt100::Color::Idx(1)) => "#ff7b72",
        Some(vt100::Color::Idx(3)) => "#e3b341",
        _ => "#d1d7e0",
    }
}
