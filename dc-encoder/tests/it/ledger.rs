//! The ledger of a running server: what is put on which account, who may read it, and what it says to Prometheus.

use dc_encoder::ledger::{Energy, MeterChoice};
use dc_encoder::operate::{Client, Desk};
use fixtures::{ALWAYS, Leaf};
use protocol::{
    AgentToEncoderMsg, CameraAccount, EdgeWork, FrameReplyMsg, OperatorReplyMsg, OperatorRequestMsg, Site,
};

use crate::serve_support::{Agent, Fake, Pki, World, soon, start};

/// A server whose device draws 100 W while it encodes and 10 W while it waits, says its configuration.
fn world() -> World {
    World::start(Fake::new(), |config| {
        config.energy = Energy {
            site: "hall 3".into(),
            grid_gco2_per_kwh: Some(350.0),
            meter: MeterChoice::Model,
            busy_watts: Some(100.0),
            idle_watts: 10.0,
            ..Energy::default()
        };
    })
}

async fn encode(agent: &mut Agent, frames: u8) {
    for level in 0..frames {
        let reply = agent.grey(level).await.reply().await;
        assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
    }
}

async fn ask(world: &World, cameras: &str) -> Result<(Site, Vec<CameraAccount>), String> {
    let operator = world.pki.issue(&Leaf::operator("ann", 77, ALWAYS));
    let server = format!("localhost:{}", world.address.port());
    let desk = Desk::Remote(soon(Client::connect(&server, &operator)).await.unwrap());
    let request = OperatorRequestMsg::Ledger { cameras: cameras.into() };
    let (replies, _) = desk.ask(&request).await.map_err(|error| error.to_string())?;
    desk.close().await;
    let mut replies = replies.into_iter();
    let Some(OperatorReplyMsg::Site(site)) = replies.next() else { panic!("the site comes first") };
    let account = |reply| match reply {
        OperatorReplyMsg::Account(account) => account,
        other => panic!("not an account: {other:?}"),
    };
    Ok((site, replies.map(account).collect()))
}

#[tokio::test]
async fn frames_are_put_on_their_cameras_accounts() {
    let world = world();
    let (mut one, mut two) = (world.agent("plaza-1", 1).await, world.agent("street-1", 2).await);
    encode(&mut one, 6).await;
    encode(&mut two, 2).await;
    let work = EdgeWork { frames: 6, head_flops: 600, picture_flops: 9, cpu_us: 20 };
    one.say(AgentToEncoderMsg::Work(work)).await;

    // What an agent says is heard some time.
    let (site, accounts) = soon(async {
        loop {
            let (site, accounts) = ask(&world, "").await.unwrap();
            if accounts[0].edge == work {
                return (site, accounts);
            }
        }
    })
    .await;
    let [plaza, street] = &accounts[..] else { panic!("two cameras: {accounts:?}") };
    assert_eq!((plaza.camera.as_str(), plaza.frames, plaza.flops), ("plaza-1", 6, 6000));
    assert_eq!((street.camera.as_str(), street.frames, street.flops), ("street-1", 2, 2000));
    assert!(plaza.joules > 0.0 && plaza.busy_us > 0, "{plaza:?}");
    assert!(!site.metered && site.power.starts_with("modelled: 100 W"), "{site:?}");
    assert_eq!((site.name.as_str(), site.frame_flops, site.grid_gco2_per_kwh), ("hall 3", 1000, Some(350.0)));

    let (_, plazas) = ask(&world, "plaza-*").await.unwrap();
    assert_eq!(plazas.len(), 1);
    let refused = ask(&world, "a b").await.unwrap_err();
    assert!(refused.contains("a b"), "{refused}");
    world.server.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_account_outlives_a_connection() {
    let world = world();
    let mut agent = world.agent("plaza-1", 1).await;
    encode(&mut agent, 2).await;
    agent.connection.close(0u8.into(), b"");
    drop(agent);
    let identity = world.pki.camera("plaza-1", 1);
    let mut again = Agent::admitted(&identity, world.address, crate::serve_support::hello("plaza-1")).await;
    encode(&mut again, 3).await;
    let (_, accounts) = ask(&world, "").await.unwrap();
    assert_eq!((accounts.len(), accounts[0].frames), (1, 5));
    world.server.shutdown().await.unwrap();
}

#[test]
fn a_meter_that_this_device_has_not_is_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let energy = Energy { meter: MeterChoice::Nvml, ..Energy::default() };
    let error = start(&Pki::new(), Fake::new(), |config| config.energy = energy).err().unwrap().to_string();
    assert!(error.contains("energy.meter = \"nvml\"") && error.contains("\"model\""), "{error}");
}
