//! Memory that does not grow with the file.

use anyhow::{Result, ensure};

use super::cases::RING;
use super::scene::Scene;

/// Far more than any process may have.
const SOURCE_BYTES: u64 = 1 << 30;

/// What any one process may have, resident, beyond the ring.
const LIMIT_BYTES: u64 = 16 << 20;

/// Peak resident memory, by `wait4`: the maximum over the server and the peers that it reaped.
///
/// The kernel also counts what a process had before it became the program, which is this one's own
/// memory. So nothing in here may ever hold much; if it did, this check would fail, not pass.
pub(crate) fn bounded(scene: &Scene) -> Result<()> {
    scene.write_source("data", SOURCE_BYTES)?;
    let ended = scene.run(["2", "data"])?;
    ended.expect_status(0)?;
    ended.expect_copies_by_pid("data", "data", 2)?;
    let (peak, limit) = (ended.peak_bytes, RING + LIMIT_BYTES);
    ensure!(peak < limit, "peak resident memory: expected less than {limit} bytes, found {peak}");
    Ok(())
}
