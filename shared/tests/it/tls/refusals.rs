//! Handshakes that must fail, and the words both sides get.

use std::sync::Arc;

use fixtures::{Authority, Clock, ExtendedKeyUsagePurpose, Leaf};
use quinn::ConnectionError;
use shared::tls::{Cause, Context, Identity, client_tls, diagnose, explain, now, quic_client};

use super::world::{Agent, Attempt, DAY, Encoder, LONG, NOON, VALID, YEAR, attempt, refused};

/// A camera at noon against an encoder at noon, where one certificate or clock is not as it should be.
struct Setting {
    server: Leaf<'static>,
    camera: Leaf<'static>,
    encoder_clock: i64,
    agent_clock: i64,
}

impl Default for Setting {
    fn default() -> Self {
        let (server, camera) = (Leaf::server(VALID), Leaf::camera("plaza-1", 7, VALID));
        Self { server, camera, encoder_clock: NOON, agent_clock: NOON }
    }
}

impl Setting {
    /// What agent and encoder are told.
    async fn refused(self) -> (String, String) {
        let ca = Authority::new("CA", LONG);
        let encoder = Encoder::start(&ca.server_paths(&self.server), Clock::at(self.encoder_clock));
        let agent = Agent::new(&ca.issue(&self.camera), Clock::at(self.agent_clock));
        refused(&agent, &encoder).await
    }
}

#[tokio::test]
async fn an_expired_camera() {
    let camera = Leaf::camera("plaza-1", 7, [NOON - 40 * DAY, NOON - DAY]);
    let (agent, encoder) = Setting { camera, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the encoder at encoder.example:4433 refused this agent's certificate as out of date: it is \
         valid from 2030-04-22 12:00:00 UTC until 2030-05-31 12:00:00 UTC, the clock there says \
         2030-06-01 12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. It has \
         expired: make a new one with `dc-encoder pki issue --camera plaza-1` and put it here"
    );
    assert_eq!(
        encoder,
        "the certificate of the agent at 10.0.0.7:5 has expired: it is valid from 2030-04-22 12:00:00 \
         UTC until 2030-05-31 12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. If \
         this clock is wrong, set it with `timedatectl set-ntp true`; if it is right, give the camera \
         box a new certificate with `dc-encoder pki issue --camera NAME`"
    );
}

#[tokio::test]
async fn a_camera_not_yet_valid() {
    let camera = Leaf::camera("plaza-1", 7, [NOON + DAY, NOON + 40 * DAY]);
    let (agent, encoder) = Setting { camera, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the encoder at encoder.example:4433 refused this agent's certificate as out of date: it is \
         valid from 2030-06-02 12:00:00 UTC until 2030-07-11 12:00:00 UTC, the clock there says \
         2030-06-01 12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. If a clock \
         is wrong, set it with `timedatectl set-ntp true`; else issue it again"
    );
    assert_eq!(
        encoder,
        "the certificate of the agent at 10.0.0.7:5 is not valid yet: it is valid from 2030-06-02 \
         12:00:00 UTC until 2030-07-11 12:00:00 UTC, and this machine's clock says 2030-06-01 \
         12:00:00 UTC. If this clock is wrong, set it with `timedatectl set-ntp true`; if it is \
         right, the machine that issued the certificate was ahead: issue it again"
    );
}

#[tokio::test]
async fn an_expired_encoder() {
    let server = Leaf::server([NOON - 40 * DAY, NOON - DAY]);
    let (agent, encoder) = Setting { server, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the certificate of the encoder at encoder.example:4433 has expired: it is valid from \
         2030-04-22 12:00:00 UTC until 2030-05-31 12:00:00 UTC, and this machine's clock says \
         2030-06-01 12:00:00 UTC. If this clock is wrong, set it with `timedatectl set-ntp true`; if \
         it is right, give the encoder a new certificate with `dc-encoder pki issue --server HOST`"
    );
    assert_eq!(
        encoder,
        "the agent at 10.0.0.7:5 refused this encoder's certificate as out of date: it is valid from \
         2030-04-22 12:00:00 UTC until 2030-05-31 12:00:00 UTC, the clock there says 2030-06-01 \
         12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. It has expired: make a \
         new one with `dc-encoder pki issue --server localhost` and put it here"
    );
}

#[tokio::test]
async fn an_encoder_not_yet_valid() {
    let server = Leaf::server([NOON + DAY, NOON + 40 * DAY]);
    let (agent, encoder) = Setting { server, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the certificate of the encoder at encoder.example:4433 is not valid yet: it is valid from \
         2030-06-02 12:00:00 UTC until 2030-07-11 12:00:00 UTC, and this machine's clock says \
         2030-06-01 12:00:00 UTC. If this clock is wrong, set it with `timedatectl set-ntp true`; if \
         it is right, the machine that issued the certificate was ahead: issue it again"
    );
    assert_eq!(
        encoder,
        "the agent at 10.0.0.7:5 refused this encoder's certificate as out of date: it is valid from \
         2030-06-02 12:00:00 UTC until 2030-07-11 12:00:00 UTC, the clock there says 2030-06-01 \
         12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. If a clock is wrong, \
         set it with `timedatectl set-ntp true`; else issue it again"
    );
}

#[tokio::test]
async fn an_agents_clock_a_year_behind() {
    let (agent, encoder) = Setting { agent_clock: NOON - YEAR, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the certificate of the encoder at encoder.example:4433 is not valid yet: it is valid from \
         2030-05-02 12:00:00 UTC until 2030-07-01 12:00:00 UTC, and this machine's clock says \
         2029-06-01 12:00:00 UTC. This machine's clock is wrong: our own certificate is newer than \
         that; set it with `timedatectl set-ntp true`"
    );
    assert_eq!(
        encoder,
        "the agent at 10.0.0.7:5 refused this encoder's certificate as out of date: it is valid from \
         2030-05-02 12:00:00 UTC until 2030-07-01 12:00:00 UTC, the clock there says 2029-06-01 \
         12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. The two clocks are 365 \
         days apart: set the wrong one with `timedatectl set-ntp true`"
    );
}

#[tokio::test]
async fn an_agents_clock_a_year_ahead() {
    let (agent, encoder) = Setting { agent_clock: NOON + YEAR, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the certificate of the encoder at encoder.example:4433 has expired: it is valid from \
         2030-05-02 12:00:00 UTC until 2030-07-01 12:00:00 UTC, and this machine's clock says \
         2031-06-01 12:00:00 UTC. If this clock is wrong, set it with `timedatectl set-ntp true`; if \
         it is right, give the encoder a new certificate with `dc-encoder pki issue --server HOST`"
    );
    assert_eq!(
        encoder,
        "the agent at 10.0.0.7:5 refused this encoder's certificate as out of date: it is valid from \
         2030-05-02 12:00:00 UTC until 2030-07-01 12:00:00 UTC, the clock there says 2031-06-01 \
         12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. The two clocks are 365 \
         days apart: set the wrong one with `timedatectl set-ntp true`"
    );
}

#[tokio::test]
async fn an_encoders_clock_a_year_behind() {
    let (agent, encoder) = Setting { encoder_clock: NOON - YEAR, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the encoder at encoder.example:4433 refused this agent's certificate as out of date: it is \
         valid from 2030-05-02 12:00:00 UTC until 2030-07-01 12:00:00 UTC, the clock there says \
         2029-06-01 12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. The two \
         clocks are 365 days apart: set the wrong one with `timedatectl set-ntp true`"
    );
    assert_eq!(
        encoder,
        "the certificate of the agent at 10.0.0.7:5 is not valid yet: it is valid from 2030-05-02 \
         12:00:00 UTC until 2030-07-01 12:00:00 UTC, and this machine's clock says 2029-06-01 \
         12:00:00 UTC. This machine's clock is wrong: our own certificate is newer than that; set it \
         with `timedatectl set-ntp true`"
    );
}

#[tokio::test]
async fn an_encoders_clock_a_year_ahead() {
    let (agent, encoder) = Setting { encoder_clock: NOON + YEAR, ..Setting::default() }.refused().await;
    assert_eq!(
        agent,
        "the encoder at encoder.example:4433 refused this agent's certificate as out of date: it is \
         valid from 2030-05-02 12:00:00 UTC until 2030-07-01 12:00:00 UTC, the clock there says \
         2031-06-01 12:00:00 UTC, and this machine's clock says 2030-06-01 12:00:00 UTC. The two \
         clocks are 365 days apart: set the wrong one with `timedatectl set-ntp true`"
    );
    assert_eq!(
        encoder,
        "the certificate of the agent at 10.0.0.7:5 has expired: it is valid from 2030-05-02 12:00:00 \
         UTC until 2030-07-01 12:00:00 UTC, and this machine's clock says 2031-06-01 12:00:00 UTC. If \
         this clock is wrong, set it with `timedatectl set-ntp true`; if it is right, give the camera \
         box a new certificate with `dc-encoder pki issue --camera NAME`"
    );
}

/// Twice: a CA of another name, and one that gave itself our CA's name.
#[tokio::test]
async fn a_camera_of_a_foreign_authority() {
    for name in ["Foreign CA", "CA"] {
        let (ca, foreign) = (Authority::new("CA", LONG), Authority::new(name, LONG));
        let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
        // It trusts the encoder, so that only the encoder can refuse.
        let dir = foreign.issue_trusting(&Leaf::camera("plaza-1", 7, VALID), &[&ca]);
        let agent = Agent::new(&dir, Clock::at(NOON));
        let (agent, encoder) = refused(&agent, &encoder).await;
        assert_eq!(
            agent,
            "the encoder at encoder.example:4433 does not trust the CA that signed this agent's \
         certificate. Both sides need certificates of one `dc-encoder pki`: make this one with \
         `dc-encoder pki issue --camera plaza-1` there"
        );
        assert_eq!(
            encoder,
            "the agent at 10.0.0.7:5 presented a certificate (camera plaza-1) signed by a CA that this \
         encoder does not trust. Both sides need certificates of one `dc-encoder pki`: compare their \
         ca.pem, and check the address"
        );
    }
}

#[tokio::test]
async fn an_encoder_of_a_foreign_authority() {
    for name in ["Foreign CA", "CA"] {
        let (ca, foreign) = (Authority::new("CA", LONG), Authority::new(name, LONG));
        let encoder = Encoder::start(&foreign.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
        let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
        let (agent, encoder) = refused(&agent, &encoder).await;
        assert_eq!(
            agent,
            "the encoder at encoder.example:4433 presented a certificate (server \"localhost\") signed by \
         a CA that this agent does not trust. Both sides need certificates of one `dc-encoder pki`: \
         compare their ca.pem, and check the address"
        );
        assert_eq!(
            encoder,
            "the agent at 10.0.0.7:5 does not trust the CA that signed this encoder's certificate. Both \
         sides need certificates of one `dc-encoder pki`: make this one with `dc-encoder pki issue \
         --server localhost` there"
        );
    }
}

#[tokio::test]
async fn a_camera_posing_as_an_encoder() {
    // Once by purpose, once by role alone: a certificate for both purposes must not get through either.
    for usage in [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth] {
        let ca = Authority::new("CA", LONG);
        let posing = Leaf { usage, hosts: vec!["localhost"], ..Leaf::camera("plaza-2", 9, VALID) };
        let encoder = Encoder::posing(&ca.server_paths(&Leaf::server(VALID)), &ca.issue(&posing));
        let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
        let (agent, _) = refused(&agent, &encoder).await;
        assert_eq!(
            agent,
            "the encoder at encoder.example:4433 presented a certificate (camera plaza-2) that does \
         not allow it to act as an encoder. Check the address; an encoder needs a certificate from \
         `dc-encoder pki issue --server HOST`"
        );
    }
}

#[tokio::test]
async fn an_encoder_posing_as_a_camera() {
    for usage in [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth] {
        let camera = Leaf { usage, serial: 0x52, ..Leaf::server(VALID) };
        let ca = Authority::new("CA", LONG);
        let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
        let agent = Agent::new(&ca.issue(&camera), Clock::at(NOON));
        let attempt = attempt(&agent, agent.config(), &encoder, "localhost").await;
        // Its role makes it call itself an encoder, and the other side an agent.
        let message = agent.explain(&attempt.agent.unwrap_err());
        assert_eq!(
            message,
            "the agent at encoder.example:4433 does not accept this encoder's certificate in its role \
         (server). An encoder needs a certificate from `dc-encoder pki issue --server HOST`"
        );
        assert_eq!(
            encoder.explain(&attempt.encoder.unwrap_err()),
            "the agent at 10.0.0.7:5 presented a certificate (server \"localhost\") that does not \
         allow it to act as an agent. A camera box needs a certificate from `dc-encoder pki issue \
         --camera NAME`"
        );
    }
}

#[tokio::test]
async fn a_wrong_host_name() {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    for name in ["encoder.example", "10.1.2.3"] {
        let Attempt { agent: ours, encoder: theirs } = attempt(&agent, agent.config(), &encoder, name).await;
        assert_eq!(
            agent.explain(&ours.unwrap_err()),
            format!(
                "the certificate of the encoder at encoder.example:4433 is not for {name} but for localhost, 127.0.0.1. \
                 Connect by a name it has, or issue one that has this name too: \
                 `dc-encoder pki issue --server {name},…`"
            )
        );
        let told = encoder.explain(&theirs.unwrap_err());
        assert!(told.contains(
            "the agent at 10.0.0.7:5 reached this encoder by a name that its certificate does not have"
        ));
        assert!(told.contains(name), "{told}");
    }
}

#[tokio::test]
async fn another_protocol_version() {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    for alpn in [vec![b"fth/9".to_vec()], vec![]] {
        let mut tls = client_tls(&agent.identity, Some(agent.clock.clone())).unwrap();
        tls.alpn_protocols = alpn;
        let config = quic_client(tls).unwrap();
        let Attempt { agent: ours, encoder: theirs } = attempt(&agent, config, &encoder, "localhost").await;
        assert_eq!(
            agent.explain(&ours.unwrap_err()),
            "the encoder at encoder.example:4433 speaks another protocol version: this agent speaks \
         fth/4. Update the older side"
        );
        assert_eq!(
            encoder.explain(&theirs.unwrap_err()),
            "the agent at 10.0.0.7:5 speaks another protocol version: this encoder speaks fth/4. Update \
         the older side"
        );
    }
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn an_agent_without_a_certificate() {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    let mut tls = client_tls(&agent.identity, Some(agent.clock.clone())).unwrap();
    tls.client_auth_cert_resolver = Arc::new(NoCertificate);
    let config = quic_client(tls).unwrap();
    let Attempt { agent: ours, encoder: theirs } = attempt(&agent, config, &encoder, "localhost").await;
    assert_eq!(
        agent.explain(&ours.unwrap_err()),
        "the encoder at encoder.example:4433 wants a certificate and got none. Make one with \
         `dc-encoder pki issue --camera plaza-1`"
    );
    assert_eq!(
        encoder.explain(&theirs.unwrap_err()),
        "the agent at 10.0.0.7:5 presented no certificate. Only programs with a certificate of this \
         system's CA may connect"
    );
}

#[test]
fn failures_without_a_certificate_in_them_are_explained_too() {
    let ca = Authority::new("CA", LONG);
    let identity = Identity::load(&ca.issue(&Leaf::camera("plaza-1", 7, VALID))).unwrap();
    let context = Context { identity: &identity, peer: "encoder.example:4433", now: now(&*Clock::at(NOON)) };
    let closed = |code: u32, reason: &'static [u8]| {
        ConnectionError::ApplicationClosed(quinn::ApplicationClose {
            error_code: code.into(),
            reason: reason.into(),
        })
    };
    let refused = ConnectionError::ConnectionClosed(quinn::ConnectionClose {
        error_code: quinn::TransportErrorCode::CONNECTION_REFUSED,
        frame_type: None,
        reason: Default::default(),
    });
    for (error, cause, words) in [
        (
            ConnectionError::TimedOut,
            Cause::Timeout,
            "no answer from the encoder at encoder.example:4433 for 10 s. Check that the encoder runs, \
         that address and port are right, and that no firewall drops UDP",
        ),
        (
            ConnectionError::Reset,
            Cause::Reset,
            "the encoder at encoder.example:4433 does not know this connection any more: it was \
         restarted. Connect again",
        ),
        (
            refused,
            Cause::Refused,
            "the encoder at encoder.example:4433 takes no new connections now. It is full or shutting \
         down: try again, or name another encoder",
        ),
        (
            closed(protocol::close::REFUSED, b"no space \x1b[31m"),
            Cause::Closed(1),
            "the encoder at encoder.example:4433 closed the connection: the encoder refused the session \
         (no space ?[31m)",
        ),
        (
            closed(protocol::close::REPLACED, b""),
            Cause::Closed(3),
            "the encoder at encoder.example:4433 closed the connection: a newer connection of the same \
         camera took its place. Give every camera box its own certificate, and run one agent with it",
        ),
        (
            closed(99, b""),
            Cause::Closed(99),
            "the encoder at encoder.example:4433 closed the connection: for a reason this version does \
         not know (code 99)",
        ),
    ] {
        assert_eq!(explain(&error, &context), words);
        assert_eq!(diagnose(&error, &context).cause, cause);
    }
    let name = quinn::ConnectError::InvalidServerName("a b".into());
    assert_eq!(
        explain(&name, &context),
        "\"a b\" is neither a host name nor an IP address. Write the encoder as HOST:PORT"
    );
}
