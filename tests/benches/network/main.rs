//! `make bench-network`: frames over a link with a round trip and losses, QUIC with a stream a frame against TCP.
//!
//! ```text
//! camera: a frame at fixed times ─► agent's uplink ══ namespaces, one link for all ══► dc-encoder (answers at once)
//!                                        └─ answers ─► capture → answer, age of the newest answer
//! ```
//! Agent and server are the real ones, in this process; the encoder behind them is a stand-in that takes no time, so that the
//! network is all there is. `SECONDS=N` a cell (default 15); `ONLY=20ms,1%` the cells of one link, `ONLY=goal` those of
//! the goal; `SEED=N` loses other packets (default 1).
//! Prints `goal=… measured=… met|missed`; fails only when something could not be measured.
#![allow(missing_docs)]

mod camera;
mod cell;
mod site;

use std::time::Duration;

use anyhow::Context as _;
use edge_agent::config::Transport;
use shared::tls::Congestion;
use tests::goals::goal;
use tests::netns;

use cell::{Cell, Figures};

/// Each cell's time unless `SECONDS` says otherwise.
const SECONDS: u64 = 15;
/// The goal's cells take so many times as long: p99 is of the slowest moments, and few of them are luck.
const GOAL_TIMES: u32 = 6;
const ROUND_TRIPS: [u64; 4] = [1, 20, 50, 100];
const LOSSES: [f64; 3] = [0.0, 0.01, 0.05];

fn main() -> anyhow::Result<()> {
    // cargo passes a flag of its own.
    if !netns::inside()? {
        return Ok(());
    }
    let seconds = match std::env::var("SECONDS") {
        Ok(text) => text.parse().context("SECONDS is a number")?,
        Err(_) => SECONDS,
    };
    let seed = match std::env::var("SEED") {
        Ok(text) if !text.is_empty() => text.parse().context("SEED is a whole number")?,
        _ => 1,
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let within = Duration::from_secs(seconds);
    let bbr = cell::kernel_has("bbr");
    println!("{}", cell::SETTING);
    println!(
        "congestion control of the agent's side as named; TCP's is the kernel's{}",
        if bbr { "" } else { ", which has no bbr: QUIC alone has it" }
    );
    println!("{}", Cell::HEADINGS);
    for round_trip in ROUND_TRIPS {
        for loss in LOSSES {
            if only.is_empty() || only == format!("{round_trip}ms,{}%", loss * 100.0) {
                for cell in cells(Duration::from_millis(round_trip), loss, (bbr, seed)) {
                    println!("{}", cell.row(&cell.measure(within)?));
                }
            }
        }
    }
    if only.is_empty() || only == "goal" { goals(within * GOAL_TIMES, (bbr, seed)) } else { Ok(()) }
}

/// Everything that is compared on one link.
fn cells(round_trip: Duration, loss: f64, (bbr, seed): (bool, u64)) -> Vec<Cell> {
    let cell = |transport, congestion, newest_wins| Cell {
        round_trip,
        loss,
        transport,
        congestion,
        newest_wins,
        seed,
    };
    let mut cells = Vec::new();
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        cells.push(cell(Transport::Quic, congestion, true));
        if congestion == Congestion::Cubic || bbr {
            cells.push(cell(Transport::Tcp, congestion, true));
        }
    }
    cells
        .extend([Transport::Quic, Transport::Tcp].map(|transport| cell(transport, Congestion::Cubic, false)));
    cells
}

fn goals(within: Duration, (bbr, seed): (bool, u64)) -> anyhow::Result<()> {
    println!("for the goal, {} s each", within.as_secs());
    for congestion in
        [Congestion::Cubic, Congestion::Bbr].into_iter().filter(|it| *it == Congestion::Cubic || bbr)
    {
        let [quic, tcp] = [Transport::Quic, Transport::Tcp].map(|transport| Cell {
            round_trip: Duration::from_millis(50),
            loss: 0.05,
            transport,
            congestion,
            newest_wins: true,
            seed,
        });
        let [of_quic, of_tcp]: [Figures; 2] = [quic.measure(within)?, tcp.measure(within)?];
        println!("{}\n{}", quic.row(&of_quic), tcp.row(&of_tcp));
        let (ours, theirs) = (of_quic.ages[2], of_tcp.ages[2]);
        let measured = format!("{:.2} ({ours:.0}ms against {theirs:.0}ms)", ours / theirs);
        let what = format!("p99-age-of-newest-answer-QUIC/TCP-50ms-5%loss-10fps-20kB-{congestion}");
        goal(&what, "<=0.7", &measured, ours <= 0.7 * theirs);
    }
    Ok(())
}
