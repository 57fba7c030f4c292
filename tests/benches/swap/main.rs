//! `make bench-swap`: how long a published head takes to answer, and what a swap costs frames.
//!
//! ```text
//! operator ══ QUIC ══► dc-encoder (a stand-in for the model) ══ QUIC, maybe a bad link ══► agents ─► active
//! latency   agents in this process: the agent's own link, fetch, store and swap, without frames
//! load      edge-agent as a process, frames as fast as they are answered, a swap after every swap
//! ```
//! Prints `goal=… measured=… met|missed`; fails only when something could not be measured. `SWAPS=N`: swaps under load.
#![allow(missing_docs)]

mod fleet;
mod latency;
mod load;
mod shop;

use anyhow::Context as _;

/// Swaps under load, unless `SWAPS` says otherwise.
const SWAPS: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let swaps = match std::env::var("SWAPS") {
        Ok(text) => text.parse().context("SWAPS is a number")?,
        Err(_) => SWAPS,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        latency::one().await?;
        latency::many().await?;
        latency::bad_link().await?;
        load::run(swaps).await
    })
}
