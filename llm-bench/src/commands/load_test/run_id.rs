use anyhow::Context as _;
use rand::{TryRng as _, rngs::SysRng};
use shared_types::BatchId;

use crate::context::Context;

/// A UUIDv7: runs sort by their start.
pub(super) fn draw(context: &Context) -> anyhow::Result<String> {
    let mut random = [0; 10];
    SysRng
        .try_fill_bytes(&mut random)
        .context("drawing the run's id")?;
    Ok(BatchId::new(context.clock.now(), random).to_string())
}
