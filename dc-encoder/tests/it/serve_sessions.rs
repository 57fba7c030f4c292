//! Who is let in, and what those who are not are told.

use std::time::{Duration, Instant, SystemTime};

use fixtures::{ALWAYS, Clock, Leaf};
use protocol::{
    AgentToEncoderMsg, EncoderToAgentMsg, Goodbye, GoodbyeReason, Hello, Ping, RefuseCode, Refused, SpaceId,
    close,
};

use crate::serve_support::{Agent, Fake, World, connect, hello, soon};

async fn refused(mut agent: Agent) -> Refused {
    let EncoderToAgentMsg::Refused(refused) = agent.heard().await else { panic!("admitted") };
    let (code, reason) = agent.closed().await;
    assert_eq!(code, close::REFUSED);
    assert!(reason.contains(&refused.message), "the close says the same: {reason}");
    refused
}

async fn answered(agent: &mut Agent) {
    let reply = agent.grey(9).await.reply().await;
    assert!(matches!(reply, protocol::FrameReplyMsg::Answer(_)), "{reply:?}");
}

#[tokio::test]
async fn those_who_may_not_come_in_read_why() {
    let world = World::start(Fake::new(), |_| {});
    let gate = world.pki.camera("gate", 10);
    let operator = world.pki.issue(&Leaf::operator("ada", 11, ALWAYS));
    let foreign = vec![SpaceId([1; 32])];
    let cases = [
        (&gate, Hello { version: 9, ..hello("gate") }, RefuseCode::Version, "version 4"),
        (&gate, Hello { spaces: foreign, ..hello("gate") }, RefuseCode::Space, "070707070707"),
        (&gate, hello("roof"), RefuseCode::Camera, "gate"),
        (&operator, hello("ada"), RefuseCode::Role, "operator"),
    ];
    for (identity, hello, code, words) in cases {
        let refused = refused(Agent::greeting(identity, world.address, hello).await).await;
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains(words), "{refused}");
    }
    answered(&mut Agent::admitted(&gate, world.address, hello("gate")).await).await;
}

#[tokio::test]
async fn an_agent_without_heads_is_welcome() {
    let world = World::start(Fake::new(), |_| {});
    let hello = Hello { spaces: vec![], ..hello("gate") };
    answered(&mut Agent::admitted(&world.pki.camera("gate", 10), world.address, hello).await).await;
}

#[tokio::test]
async fn a_greeting_that_is_none_is_refused_in_words() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = Agent::greeting(&world.pki.camera("gate", 10), world.address, hello("gate")).await;
    agent.heard().await;

    let identity = world.pki.camera("roof", 11);
    let (_endpoint, connection) = connect(&identity, world.address).await;
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(&[0, 3, 0, 0, 0, 9, 9, 9]).await.unwrap();
    let mut reader = shared::wire::MsgReader::new(recv, 8192);
    let refused = soon(reader.next()).await.unwrap();
    let Some(EncoderToAgentMsg::Refused(Refused { code: RefuseCode::Malformed, .. })) = refused else {
        panic!("{refused:?}")
    };
    answered(&mut agent).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let world = World::start(Fake::new(), |config| config.timeouts.hello = Duration::from_millis(50));
    let (_endpoint, connection) = connect(&world.pki.camera("gate", 10), world.address).await;
    let reason = soon(connection.closed()).await.to_string();
    assert!(reason.contains("no greeting within 50ms"), "{reason}");
}

#[tokio::test]
async fn hostile_control_bytes_close_only_that_session() {
    let world = World::start(Fake::new(), |_| {});
    let (mut good, mut bad) = (world.agent("good", 10).await, world.agent("bad", 11).await);
    bad.control.write_all(&[0xff; 64]).await.unwrap();
    let (code, reason) = bad.closed().await;
    assert_eq!(code, close::MALFORMED, "{reason}");
    answered(&mut good).await;

    let mut again = world.agent("bad", 12).await;
    again.say(AgentToEncoderMsg::Hello(hello("bad"))).await;
    assert_eq!(again.closed().await.0, close::MALFORMED, "one greeting a session");
    answered(&mut good).await;
}

#[tokio::test]
async fn pings_are_answered_and_goodbyes_end_the_session() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    agent.say(AgentToEncoderMsg::Ping(Ping { id: 42, sent_us: 7 })).await;
    let EncoderToAgentMsg::Pong(pong) = agent.heard().await else { panic!("no pong") };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    assert_eq!(pong.id, 42);
    assert!(pong.received_us <= pong.sent_us && u128::from(pong.sent_us).abs_diff(now) < 60_000_000);
    agent.say(AgentToEncoderMsg::Goodbye(Goodbye::new(GoodbyeReason::Shutdown, ""))).await;
    assert_eq!(agent.closed().await.0, close::OK);
}

#[tokio::test]
async fn a_second_agent_with_the_same_certificate_is_refused_and_the_first_goes_on() {
    let silence = Duration::from_secs(1);
    let world = World::start(Fake::new(), |config| {
        config.timeouts.silence = silence;
        config.timeouts.keep_alive = silence / 5;
    });
    let identity = world.pki.camera("gate", 10);
    let mut first = Agent::admitted(&identity, world.address, hello("gate")).await;
    // Longer connected than a silence lasts, and not silent.
    let connected = Instant::now();
    while connected.elapsed() < silence * 2 {
        answered(&mut first).await;
    }
    let second = Agent::greeting(&identity, world.address, Hello { instance: 2, ..hello("gate") }).await;
    let refused = refused(second).await;
    assert_eq!(refused.code, RefuseCode::Duplicate);
    assert!(refused.message.contains("127.0.0.1:") && refused.message.contains("pki issue"), "{refused}");
    answered(&mut first).await;
}

/// The first agent's runtime stands still after its greeting: a box that lost its power, or its link.
#[test]
fn a_silent_agent_gives_way_to_another_with_its_certificate() {
    let moving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let standing = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = moving.block_on(async {
        World::start(Fake::new(), |config| {
            config.timeouts.silence = Duration::from_millis(200);
            config.timeouts.keep_alive = Duration::from_millis(50);
        })
    });
    let identity = world.pki.camera("gate", 10);
    let silent = standing.block_on(Agent::admitted(&identity, world.address, hello("gate")));
    moving.block_on(soon(async {
        loop {
            let other = Hello { instance: 2, ..hello("gate") };
            let mut agent = Agent::greeting(&identity, world.address, other).await;
            match agent.heard().await {
                EncoderToAgentMsg::Welcome(_) => break answered(&mut agent).await,
                EncoderToAgentMsg::Refused(refused) => assert_eq!(refused.code, RefuseCode::Duplicate),
                other => panic!("{other:?}"),
            }
        }
    }));
    assert_eq!(standing.block_on(silent.closed()).0, close::REPLACED);
}

#[tokio::test]
async fn the_same_process_replaces_its_older_connection() {
    let world = World::start(Fake::new(), |_| {});
    let identity = world.pki.camera("gate", 10);
    let old = Agent::admitted(&identity, world.address, hello("gate")).await;
    let mut new = Agent::admitted(&identity, world.address, hello("gate")).await;
    assert_eq!(old.closed().await.0, close::REPLACED);
    answered(&mut new).await;
}

#[tokio::test]
async fn a_camera_that_left_can_come_back_as_another_process() {
    let world = World::start(Fake::new(), |_| {});
    let identity = world.pki.camera("gate", 10);
    let mut first = Agent::admitted(&identity, world.address, hello("gate")).await;
    first.say(AgentToEncoderMsg::Goodbye(Goodbye::new(GoodbyeReason::Shutdown, ""))).await;
    first.closed().await;
    let restarted = Hello { instance: 2, ..hello("gate") };
    answered(&mut Agent::admitted(&identity, world.address, restarted).await).await;
}

#[tokio::test]
async fn more_cameras_than_allowed_are_told_the_limit() {
    let world = World::start(Fake::new(), |config| config.limits.max_sessions = 1);
    let mut first = world.agent("one", 10).await;
    let second = Agent::greeting(&world.pki.camera("two", 11), world.address, hello("two")).await;
    let refused = refused(second).await;
    assert_eq!(refused.code, RefuseCode::Limit);
    assert!(refused.message.contains("max_sessions"), "{refused}");
    answered(&mut first).await;
}

#[tokio::test]
async fn revocation_closes_a_live_session_and_only_that_one() {
    let world = World::start(Fake::new(), |_| {});
    let (mut good, bad) = (world.agent("good", 10).await, world.agent("bad", 11).await);
    world.pki.revoke(2, &[11]);
    let (code, reason) = bad.closed().await;
    assert_eq!(code, close::REVOKED);
    assert!(reason.contains("bad"), "{reason}");
    answered(&mut good).await;
}

#[tokio::test]
async fn a_session_ends_with_its_certificate() {
    let last = 1_900_000_000;
    let clock = Clock::at(last);
    let world = World::start_at(Fake::new(), clock.clone(), |_| {});
    let mut good = world.agent("good", 10).await;
    let short = world.pki.issue(&Leaf::camera("short", 11, [ALWAYS[0], last]));
    let mut short = Agent::admitted(&short, world.address, hello("short")).await;
    answered(&mut short).await;
    clock.set(last + 1);
    let (code, reason) = short.closed().await;
    assert_eq!(code, close::EXPIRED);
    assert!(
        reason.contains("(camera short, serial 0b) has expired: it was valid until 2030-03-17"),
        "{reason}"
    );
    assert!(reason.contains("`dc-encoder pki issue --camera short`"), "{reason}");
    answered(&mut good).await;
}
