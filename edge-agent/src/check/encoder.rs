//! What each encoder says: link, model, and whether the heads can read its embeddings.

use protocol::RefuseCode;
use shared::patches::Policy;
use shared::tls::{Floor, Identity};

use super::{Item, Report, Status};
use crate::config::{ServerAddr, Settings};
use crate::heads::Loaded;
use crate::uplink::dial::{Dialer, Greeting};
use crate::uplink::failure::Failure;
use crate::uplink::session::{OnWire, Session};

/// Asks every encoder.
pub(super) async fn check(
    settings: &Settings,
    identity: &Identity,
    heads: &[Loaded],
    report: &mut Report<'_>,
) {
    // A camera name that is missing was reported with the identity.
    let camera = settings.camera_name(identity).unwrap_or_default();
    let greeting = Greeting { instance: rand::random(), camera };
    let mut dialer = match Dialer::new(&settings.identity, identity.clone(), greeting) {
        Ok(dialer) => dialer.with_floor(Floor::beside(&settings.identity)),
        Err(failure) => return report.add(&Item::fail("link", failure.words, "")),
    };
    let on_wire =
        OnWire { in_flight: settings.max_in_flight, patches: settings.uplink.patches != Policy::All };
    for server in &settings.servers {
        // No spaces: an encoder of another space is to say what it has.
        match dialer.dial(server, Vec::new(), on_wire).await {
            Ok((session, _control)) => {
                report.add_all(greeted(server, &session));
                report.add_all(patches(server, &session, settings.uplink.patches));
                report.add_all(heads.iter().map(|loaded| space(server, &session, loaded)));
            }
            Err(failure) => report.add(&refused(server, failure)),
        }
    }
    dialer.close().await;
}

fn greeted(server: &ServerAddr, session: &Session) -> Vec<Item> {
    let welcome = session.welcome();
    let rtt = session.round_trip().as_secs_f64() * 1e3;
    let link = format!("{}, round trip {rtt:.1} ms", welcome.server);
    let name = format!("encoder {server}");
    let grid = welcome.grid.map_or_else(String::new, |grid| format!(", {}x{} tokens", grid.rows, grid.cols));
    let model = format!(
        "model {}, space {}, input {}x{}, embeddings of {}{grid}",
        welcome.model,
        welcome.space.short(),
        welcome.input.width,
        welcome.input.height,
        welcome.embed_dim
    );
    let status = if welcome.note.is_empty() { Status::Ok } else { Status::Warn };
    let remedy = if welcome.note.is_empty() { "" } else { "the encoder says this about its model" };
    let words = if welcome.note.is_empty() { model } else { format!("{model}: {}", welcome.note) };
    vec![Item::ok(&format!("link {server}"), link), Item { status, name, words, remedy: remedy.into() }]
}

/// Whether frames can travel as the configuration says.
fn patches(server: &ServerAddr, session: &Session, policy: Policy) -> Option<Item> {
    let name = format!("patches at {server}");
    match (policy, session.welcome().patch) {
        (Policy::All, _) => None,
        (_, Some(side)) => Some(Item::ok(&name, format!("it takes patches of {side}x{side} pixels"))),
        (policy, None) => Some(Item::warn(
            &name,
            format!("uplink.patches = \"{policy}\", and this encoder takes whole frames only"),
            "whole frames are sent: set it to \"all\", or serve this model on the processor",
        )),
    }
}

fn space(server: &ServerAddr, session: &Session, loaded: &Loaded) -> Item {
    let name = format!("head {} at {server}", loaded.info.name);
    let welcome = session.welcome();
    if let Err(mismatch) = loaded.head.check_space(&welcome.space) {
        return Item::fail(&name, mismatch.to_string(), "");
    }
    if loaded.head.needs_tokens() && welcome.grid.is_none() {
        let words = "it reads the latent-token grid, which this encoder does not give";
        return Item::fail(&name, words, "use a head on the pooled embedding, or another encoder");
    }
    Item::ok(&name, "reads this encoder's embeddings")
}

fn refused(server: &ServerAddr, failure: Failure) -> Item {
    let name = format!("link {server}");
    match failure.refused {
        Some(RefuseCode::Duplicate) => {
            Item::warn(&name, failure.words, "fine if that is this machine's own agent, running now")
        }
        _ => Item::fail(&name, failure.words, ""),
    }
}
