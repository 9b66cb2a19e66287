//! Bars on a terminal: one for each peer, or for the slowest few of many, and one for the whole.

use std::io;

use console::{StyledObject, style, truncate_str};
use rustix::termios::tcgetwinsize;

use super::frame::{Frame, State, share};

/// Up to so many peers each have a bar.
const MOST: usize = 10;

/// So many of more peers have one.
const FEW: usize = 4;

/// Columns that leave room for bars beside the words.
const WIDE: usize = 72;

/// Columns of the words behind a bar.
const WORDS: usize = 40;

/// What a window of this size shows.
pub(super) fn lines(frame: &Frame<'_>, columns: usize, rows: usize) -> Vec<String> {
    // One line is the total's, and one should stay of what was there before.
    let room = rows.saturating_sub(2);
    let all = frame.peers.len();
    let (counts, shown) = if all <= MOST.min(room) {
        (None, all)
    } else {
        (Some(format!("{}; the slowest:", frame.tell_counts())), FEW.min(room.saturating_sub(1)))
    };
    let peers = frame.slowest(shown);
    let digits = peers.last().map_or(0, |peer| peer.id.to_string().len());
    let peers = peers.into_iter().map(|peer| {
        let words = match (frame.state(peer), style(frame.tell(peer)).for_stderr()) {
            (State::Failed, words) => words.red(),
            (State::Awaited(_) | State::Detached, words) => words.yellow(),
            (State::Working | State::Stored, words) => words,
        };
        let part = frame.each.map(|each| (frame.done(peer), each));
        line(&format!("peer {:>digits$}", peer.id.0), part, &words, columns)
    });
    let part = frame.total().map(|total| (frame.done_by_all(), total));
    let name = format!("{:<width$}", "total", width = "peer ".len() + digits);
    // Behind the name, and the percentage.
    let room = columns.saturating_sub(name.len() + " 100% ".len());
    let total = line(&name, part, &style(frame.tell_total(room)), columns);
    let lines = counts.into_iter().chain(peers).chain([total]);
    lines.map(|line| truncate_str(&line, columns, "").into_owned()).collect()
}

/// One line: a name, a bar if it is known how much there is to do and there is room for one, and words.
fn line(
    name: &str,
    part: Option<(u64, u64)>,
    words: &StyledObject<String>,
    columns: usize,
) -> String {
    let Some((done, total)) = part else { return format!("{name} {words}") };
    let percent = share(done, total, 100);
    if columns < WIDE {
        return format!("{name} {percent:>3}% {words}");
    }
    let width = columns.saturating_sub(name.len() + " [] 100% ".len() + WORDS);
    // Characters that every terminal has.
    let filled = "=".repeat(share(done, total, width));
    let bar = if filled.len() < width { filled + ">" } else { filled };
    format!("{name} [{bar:<width$}] {percent:>3}% {words}")
}

/// Columns and rows of the terminal.
pub(super) fn size() -> (usize, usize) {
    let size = tcgetwinsize(io::stderr()).ok().filter(|size| size.ws_col > 0);
    size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_core::{Activity, PeerId, PeerProgress};

    /// What is shown of `peers` that each have done half of what there is to do.
    /// In all, they do so many bytes in a second.
    fn halfway(peers: u32, rate: f64, columns: usize, rows: usize) -> Vec<String> {
        let (done, activity, is_detached) = (50 << 20, Activity::Working, false);
        let peer = |id| PeerProgress { id: PeerId(id), pid: 1, done, activity, is_detached };
        let peers: Vec<_> = (0..peers).map(peer).collect();
        let rates = vec![rate / peers.len() as f64; peers.len()];
        lines(&Frame { peers: &peers, each: Some(100 << 20), rates: &rates }, columns, rows)
    }

    #[test]
    fn a_wide_window_has_bars() {
        assert_eq!(
            halfway(2, 1_048_576.0, 80, 24),
            [
                "peer 0 [============>            ]  50% 50.0 MiB",
                "peer 1 [============>            ]  50% 50.0 MiB",
                "total  [============>            ]  50% 100.0 MiB, 1.0 MiB/s, 1:40 min left",
            ]
        );
    }

    #[test]
    fn no_window_has_more_lines_than_rows_or_longer_ones_than_columns() {
        for (peers, columns, rows, expected) in [
            (3, 80, 24, 4),
            (3, 80, 5, 4),
            (3, 80, 4, 3),
            (3, 80, 3, 2),
            (10, 200, 24, 11),
            (11, 200, 24, 6),
            (1000, 40, 24, 6),
            (1000, 1, 1, 2),
        ] {
            let lines = halfway(peers, 1e9, columns, rows);
            assert_eq!(lines.len(), expected, "{peers} in {columns} x {rows}: {lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
        }
    }

    #[test]
    fn what_is_done_never_fills_more_than_the_bar() {
        for (done, total, expected) in [
            (0, 10, 0),
            (9, 10, 9),
            (10, 10, 10),
            (11, 10, 10),
            (0, 0, 10),
            (u64::MAX, u64::MAX, 10),
        ] {
            assert_eq!(share(done, total, 10), expected);
        }
    }
}
