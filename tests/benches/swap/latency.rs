//! From publishing to answering: one agent, two hundred, and one behind a bad link.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tests::answers::quantile;
use tests::goals::goal;
use tests::link::{Link, Shape};

use crate::fleet::{Camera, all_run};
use crate::shop::{Shop, head};

/// 2 MiB/s, 100 ms there and back, 2 % lost: a box on a mobile network.
const BAD: Shape = Shape {
    rate: 2.0 * 1024.0 * 1024.0,
    delay: Duration::from_millis(50),
    queue: Duration::from_millis(200),
    loss: 0.02,
    seed: 1,
};

/// What the disk takes to keep something, on both sides together about a dozen times for a head: the rest is ours.
fn disk(dir: &Path) -> anyhow::Result<()> {
    let mut file = File::create(dir.join("disk"))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let at = |q| quantile(&times, q).context("nothing was measured");
    println!("the disk keeps 4 kB in {:.1} ms (median, worst {:.1} ms)", at(0.5)?, at(1.0)?);
    Ok(())
}

pub(crate) async fn one() -> anyhow::Result<()> {
    let shop = Shop::open(Duration::ZERO).await?;
    disk(shop.dir.path())?;
    let cameras = Arc::new(vec![Camera::start(&shop, 1, shop.address())?]);
    let times = publications(&shop, &cameras, 30).await?;
    row("publish-to-active-1-agent", Duration::from_millis(50), &times)
}

pub(crate) async fn many() -> anyhow::Result<()> {
    let shop = Shop::open(Duration::ZERO).await?;
    let cameras: anyhow::Result<Vec<Camera>> =
        (1..=200).map(|number| Camera::start(&shop, number, shop.address())).collect();
    let times = publications(&shop, &Arc::new(cameras?), 10).await?;
    row("publish-to-active-last-of-200-agents", Duration::from_secs(1), &times)
}

pub(crate) async fn bad_link() -> anyhow::Result<()> {
    let shop = Shop::open(Duration::ZERO).await?;
    let link = Link::start(shop.address(), BAD).await?;
    let cameras = Arc::new(vec![Camera::start(&shop, 1, link.address)?]);
    let times = publications(&shop, &cameras, 30).await?;
    row("publish-to-active-20kB-2MiB/s-100ms-2%loss", Duration::from_secs(1), &times)
}

/// Times of `count` publications, each of a new head, after one that waits for the agents to connect.
async fn publications(shop: &Shop, cameras: &Arc<Vec<Camera>>, count: u16) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..=count {
        let head = head(number);
        let start = Instant::now();
        let release = shop.publish(&head).await?;
        all_run(cameras, release).await?;
        if number > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}

fn row(what: &str, limit: Duration, times: &[f64]) -> anyhow::Result<()> {
    let at = |q| quantile(times, q).context("nothing was measured");
    let [median, worst] = [at(0.5)?, at(1.0)?].map(|s| s * 1e3);
    let measured = format!("{median:.1}ms (median of {}, worst {worst:.1}ms)", times.len());
    let limit = limit.as_secs_f64() * 1e3;
    goal(what, &format!("<={limit}ms"), &measured, median <= limit);
    Ok(())
}
