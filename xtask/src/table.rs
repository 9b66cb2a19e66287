//! A table on standard output that fills cell by cell, so that the last one is what goes on now.

use std::io::{self, Write};

/// Columns of fixed widths.
#[derive(Debug)]
pub(crate) struct Table {
    widths: Vec<usize>,
    /// The column that the next cell goes to.
    next: usize,
}

impl Table {
    /// Prints the titles of columns with these widths, in characters.
    pub(crate) fn new(columns: &[(&str, usize)]) -> io::Result<Self> {
        let widths = columns.iter().map(|&(_, width)| width).collect();
        let mut table = Self { widths, next: 0 };
        columns.iter().try_for_each(|(title, _)| table.cell(title))?;
        Ok(table)
    }

    /// Prints the next cell of the row; the last one ends the row.
    pub(crate) fn cell(&mut self, text: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        let width = self.widths.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        if self.next < self.widths.len() {
            write!(output, "{text:width$}  ")?;
        } else {
            writeln!(output, "{text}")?;
            self.next = 0;
        }
        output.flush()
    }
}
