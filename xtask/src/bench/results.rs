//! Everything that one bench comes to, told as it comes.

use anyhow::{Context, Result};

use super::contender::Contender;
use super::host::Host;
use super::place::Place;
use super::section::{Heat, Section};
use super::series::Measured;
use super::{rounds, tables};

#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) host: Host,
    pub(crate) measured: Vec<Measured>,
    /// What was left out or is to be read with care, and why.
    pub(crate) notes: Vec<String>,
    /// What went wrong.
    pub(crate) errors: Vec<String>,
}

impl Results {
    pub(crate) fn on(host: Host) -> Self {
        println!("{host}");
        tables::print_legend();
        let mut results =
            Self { host, measured: Vec::new(), notes: Vec::new(), errors: Vec::new() };
        if results.host.is_busy() {
            results.note("other processes use this machine, and the figures will scatter".into());
        }
        results
    }

    /// Measures everybody who is there with a load, if there is room for it.
    pub(crate) fn measure(
        &mut self,
        section: Section,
        Heat { load, contenders }: Heat,
        place: &Place,
        ordinary_rounds: usize,
    ) -> Result<()> {
        let contenders = self.present(contenders);
        if !contenders.iter().any(|contender| contender.program().is_some()) {
            return Ok(());
        }
        if let Some(lack) = place.lacks(load)? {
            self.note(format!("{load} is left out: {lack}"));
            return Ok(());
        }
        let rounds = load.rounds(ordinary_rounds);
        println!("\n{load}, rounds: {rounds}");
        let throttled = self.host.throttles(load);
        if throttled {
            self.note(format!(
                "{load} is more than may wait for the disk, and takes the disk's time"
            ));
        }
        let stage = place.stage(load).context("cannot prepare a load")?;
        let (series, errors) = rounds::interleaved(&stage, &contenders, rounds);
        let measured = Measured { section, load, throttled, series };
        tables::print_figures(&measured)?;
        self.measured.push(measured);
        for error in errors {
            println!("error: {error:#}");
            self.errors.push(format!("{error:#}"));
        }
        Ok(())
    }

    /// Those that this machine has.
    fn present(&mut self, mut contenders: Vec<Contender>) -> Vec<Contender> {
        contenders.retain(|contender| {
            let lack = contender.lacks();
            if let Some(lack) = &lack {
                self.note(lack.clone());
            }
            lack.is_none()
        });
        contenders
    }

    /// Says something once.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            println!("note: {note}");
            self.notes.push(note);
        }
    }
}
