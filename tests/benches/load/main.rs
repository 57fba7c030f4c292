//! `make bench-load`: a server that a thousand cameras lean on.
//!
//! ```text
//! cameras (the agent's own uplink, one socket, a certificate each) ══ QUIC, loopback ══► server (a process:
//!     dc-encoder serve with the demo model, or this program again with a null encoder)
//! table       1 to 1000 cameras at a rate
//! overhead    one camera: what is neither decoding nor encoding
//! throughput  seed-80m at saturation beside the same backend in this process, in turns
//! memory      a thousand cameras at rest
//! saturation  a null encoder and as many frames as it takes
//! back        a server killed and started again under load
//! grpc        seed-80m beside a gRPC server in Python (only when asked for: `make bench-grpc`)
//! soak        ten minutes of more than the demo model can do (only when asked for: `make soak-load`)
//! ```
//! Prints `goal=… measured=… met|missed`; fails only when something could not be measured. `ONLY=part,part`,
//! `SECONDS=N` for each measurement.
#![allow(missing_docs)]

mod back;
mod cameras;
mod frames;
mod grpc;
mod memory;
mod null;
mod overhead;
mod saturation;
mod servers;
mod soak;
mod table;
mod throughput;

use std::time::Duration;

use anyhow::Context as _;

/// What is asked for in the environment.
#[derive(Debug, Clone)]
struct Wanted {
    only: Option<Vec<String>>,
    seconds: Option<u64>,
}

impl Wanted {
    fn of_environment() -> anyhow::Result<Self> {
        let set = |key| std::env::var(key).ok().filter(|text: &String| !text.is_empty());
        let only = set("ONLY").map(|text| text.split(',').map(str::to_owned).collect());
        let seconds = set("SECONDS").map(|text| text.parse().context("SECONDS is a whole number"));
        Ok(Self { only, seconds: seconds.transpose()? })
    }

    fn part(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .map_or(!matches!(name, "soak" | "grpc"), |only| only.iter().any(|part| part == name))
    }

    /// How long a measurement lasts that takes `usual` seconds unless something else is asked for.
    fn time(&self, usual: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(usual).max(1))
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(null::COMMAND) {
        return null::serve(args);
    }
    let wanted = Wanted::of_environment()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if wanted.part("overhead") {
            overhead::run(wanted.time(20)).await?;
        }
        if wanted.part("table") {
            table::run(wanted.time(20)).await?;
        }
        if wanted.part("memory") {
            memory::run(wanted.time(60)).await?;
        }
        if wanted.part("saturation") {
            saturation::run(wanted.time(20)).await?;
        }
        if wanted.part("back") {
            back::run(wanted.time(5)).await?;
        }
        if wanted.part("throughput") {
            throughput::run(wanted.time(40)).await?;
        }
        if wanted.part("grpc") {
            grpc::run(wanted.time(15)).await?;
        }
        if wanted.part("soak") {
            soak::run(wanted.time(600)).await?;
        }
        Ok(())
    })
}
