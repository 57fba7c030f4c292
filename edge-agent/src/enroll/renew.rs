//! The certificate of a running agent renews itself.
//!
//! ```text
//! made ──────────── two thirds of its life ─► asks, and again ever so often ──► ends
//!                              cert.pem replaced ◄─┘  the next connection has the new one
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use protocol::EnrollRequestMsg;
use rand::Rng as _;
use shared::tls::{self, Floor, Identity};
use tokio::task::JoinHandle;

use super::ask::{self, AskError};
use super::key::BoxKey;
use super::save;
use crate::config::ServerAddr;

/// Asked again so often at most, and so rarely at least: clocks may be set, and servers come back.
const AGAIN: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3600)];
/// Attempts in what is left of a certificate's life, at least.
const ATTEMPTS: i32 = 20;
/// Boxes that were installed together do not come together.
const SPREAD: f64 = 0.05;

/// Renews until it is dropped.
#[derive(Debug)]
pub struct Renewal(JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to look after the certificate in a folder.
#[must_use]
pub fn start(identity: &Path, server: ServerAddr, floor: Floor) -> Renewal {
    let spread = rand::rng().random_range(0.0..SPREAD);
    Renewal(tokio::spawn(keep(identity.to_owned(), server, floor, spread)))
}

async fn keep(dir: PathBuf, server: ServerAddr, floor: Floor, spread: f64) {
    loop {
        let wait = match Identity::load(&dir) {
            Ok(identity) => {
                let me = identity.me();
                let life = [me.not_before, me.not_after];
                match wait(life, tls::now(&floor), spread) {
                    Some(wait) => wait,
                    None => {
                        once(&dir, &identity, &server, &floor).await;
                        again(life, tls::now(&floor))
                    }
                }
            }
            // Whoever connects says so, too, and louder.
            Err(error) => {
                tracing::debug!("the certificate cannot be renewed: {error}");
                AGAIN[1]
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn once(dir: &Path, identity: &Identity, server: &ServerAddr, floor: &Floor) {
    match renew(dir, identity, server, floor).await {
        Ok(renewed) => {
            tracing::info!("certificate renewed: {}, until {}", renewed.me(), renewed.me().not_after);
        }
        Err(why) => {
            let until = identity.me().not_after;
            tracing::warn!("the certificate is not renewed, it ends on {until}: {server}: {why}");
        }
    }
}

async fn renew(
    dir: &Path,
    identity: &Identity,
    server: &ServerAddr,
    floor: &Floor,
) -> Result<Identity, String> {
    let config = tls::renew_config(identity, Some(Arc::new(floor.clone()))).map_err(|e| e.to_string())?;
    let key = BoxKey::load(&dir.join("key.pem")).map_err(|error| error.to_string())?;
    let request = key.request().map_err(|error| error.to_string())?;
    let grant =
        ask::ask(server, &config, &EnrollRequestMsg::Renew { request }).await.map_err(
            |error| match &error {
                AskError::Connection(why) => {
                    let peer = server.to_string();
                    tls::explain(why, &tls::Context { identity, peer: &peer, now: tls::now(floor) })
                }
                other => other.to_string(),
            },
        )?;
    if grant.authority != identity.authority().as_ref() {
        return Err("it sent another authority's certificate".to_owned());
    }
    let (dir, camera) = (dir.to_owned(), identity.me().camera.clone());
    tokio::task::spawn_blocking(move || save::identity(&dir, &grant, camera.as_deref()))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// How long until it is time to ask; `None`: now.
fn wait([from, until]: [Timestamp; 2], now: Timestamp, spread: f64) -> Option<Duration> {
    let life = until.duration_since(from).as_secs_f64();
    let due = from.checked_add(SignedDuration::try_from_secs_f64(life * (2.0 / 3.0 + spread)).ok()?).ok()?;
    let left = Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero())?;
    Some(left.min(AGAIN[1]))
}

/// How long until it is time to ask once more.
fn again([_, until]: [Timestamp; 2], now: Timestamp) -> Duration {
    let left = Duration::try_from(until.duration_since(now) / ATTEMPTS).unwrap_or_default();
    left.clamp(AGAIN[0], AGAIN[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    #[test]
    fn it_is_time_in_the_last_third() {
        let life = [at(0), at(90 * 24)];
        assert_eq!(wait(life, at(0), 0.0), Some(AGAIN[1]), "the clock may be set meanwhile");
        assert_eq!(wait(life, at(60 * 24 - 1), 0.0), Some(Duration::from_secs(HOUR)));
        assert_eq!(wait(life, at(60 * 24), 0.0), None);
        assert!(wait(life, at(60 * 24), SPREAD).is_some());
        assert_eq!(wait(life, at(65 * 24), SPREAD), None);
        assert_eq!(wait(life, at(900 * 24), 0.0), None);
    }

    #[test]
    fn it_asks_more_often_as_the_end_comes_near() {
        let life = [at(0), at(90 * 24)];
        assert_eq!(again(life, at(60 * 24)), AGAIN[1]);
        assert_eq!(again(life, at(90 * 24 - 10)), Duration::from_secs(HOUR / 2));
        assert_eq!(again(life, at(90 * 24)), AGAIN[0]);
        assert_eq!(again(life, at(91 * 24)), AGAIN[0]);
    }
}
