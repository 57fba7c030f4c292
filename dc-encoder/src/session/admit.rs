//! Who may come in: pure decisions, each with the words that tell the other side what to do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use protocol::{Hello, RefuseCode, Refused, SpaceId, VERSION, Welcome};
use shared::tls::{PeerIdentity, Role};

/// Another version inside the same ALPN: a peer that was built wrongly, or a future one.
///
/// # Errors
/// [`RefuseCode::Version`].
pub fn check_version(hello: &Hello) -> Result<(), Refused> {
    if hello.version == VERSION {
        return Ok(());
    }
    let why = format!(
        "this encoder speaks protocol version {VERSION}, {} speaks {}; install the same release on both",
        hello.agent, hello.version
    );
    Err(Refused::new(RefuseCode::Version, &why))
}

/// A device is its certificate: only a camera's may send frames, and only as that camera.
///
/// # Errors
/// [`RefuseCode::Role`] and [`RefuseCode::Camera`].
pub fn check_camera(hello: &Hello, identity: &PeerIdentity) -> Result<(), Refused> {
    let wanted = &hello.camera;
    if identity.role != Role::Camera {
        let why = format!(
            "the certificate of {} has the role {}; issue one for the camera: dc-encoder pki issue --camera {wanted}",
            identity.name,
            identity.role.as_str()
        );
        return Err(Refused::new(RefuseCode::Role, &why));
    }
    match &identity.camera {
        Some(camera) if camera == wanted => Ok(()),
        Some(camera) => {
            let why = format!(
                "the certificate is for camera {camera:?}, the agent says {wanted:?}; set the camera's name to \
                 {camera:?}, or issue a certificate: dc-encoder pki issue --camera {wanted}"
            );
            Err(Refused::new(RefuseCode::Camera, &why))
        }
        None => Err(Refused::new(RefuseCode::Camera, "the certificate names no camera; issue another one")),
    }
}

/// An embedding and a head of different spaces never meet.
///
/// # Errors
/// [`RefuseCode::Space`] when the agent has heads and none is in the encoder's space.
pub fn check_space(hello: &Hello, welcome: &Welcome) -> Result<(), Refused> {
    if hello.spaces.is_empty() || hello.spaces.contains(&welcome.space) {
        return Ok(());
    }
    let theirs: Vec<String> = hello.spaces.iter().take(4).map(SpaceId::short).collect();
    let more = if hello.spaces.len() > theirs.len() { ", …" } else { "" };
    let why = format!(
        "this encoder ({}) makes embeddings of space {}, the agent's heads need {}{more}; load heads trained on \
         this encoder's embeddings, or connect to the encoder they were trained on",
        welcome.model,
        welcome.space.short(),
        theirs.join(", ")
    );
    Err(Refused::new(RefuseCode::Space, &why))
}

/// The session that already holds a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its agent's process.
    pub instance: u64,
    /// When anything last arrived from it.
    pub heard: Instant,
    /// Where it connects from.
    pub address: SocketAddr,
}

/// What to do with an agent that comes as a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody is in its way.
    Admit,
    /// It takes the place of the holder, which is closed.
    Replace,
    /// Another process is alive as this camera.
    Refuse(Refused),
}

/// Two agents with one certificate would each throw the other out, forever, and answers of two places would
/// mix under one name. So a newcomer replaces its own older connection (same process) or a holder that was
/// silent for `silence` (it crashed, or its link is gone), and is refused otherwise.
pub fn decide(holder: Option<&Holder>, instance: u64, now: Instant, silence: Duration) -> Verdict {
    let Some(holder) = holder else { return Verdict::Admit };
    let silent_for = now.saturating_duration_since(holder.heard);
    if holder.instance == instance || silent_for >= silence {
        return Verdict::Replace;
    }
    let why = format!(
        "it connects from {} and was heard from {:.1} s ago; if that is another box, issue a certificate for \
         each (dc-encoder pki issue --camera NAME); if it was this agent before a restart, try again in {:.0} s",
        holder.address,
        silent_for.as_secs_f64(),
        (silence - silent_for).as_secs_f64().ceil()
    );
    Verdict::Refuse(Refused::new(RefuseCode::Duplicate, &why))
}

#[cfg(test)]
mod tests {
    use protocol::{InputSize, SessionLimits};
    use shared::tls::PeerIdentity;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    fn hello() -> Hello {
        Hello {
            version: VERSION,
            agent: "edge-agent 0.1.0".into(),
            instance: 7,
            camera: "gate".into(),
            spaces: vec![],
        }
    }

    fn identity(role: Role, camera: Option<&str>) -> PeerIdentity {
        PeerIdentity {
            camera: camera.map(str::to_owned),
            role,
            name: "box-1".into(),
            serial: "01".into(),
            not_before: jiff::Timestamp::UNIX_EPOCH,
            not_after: jiff::Timestamp::MAX,
        }
    }

    fn welcome(space: SpaceId) -> Welcome {
        Welcome {
            version: VERSION,
            server: "dc-encoder".into(),
            model: "demo".into(),
            note: String::new(),
            space,
            embed_dim: 4,
            grid: None,
            input: InputSize { width: 32, height: 16 },
            limits: SessionLimits { max_frame_bytes: 1, max_pixels: 1, max_in_flight: 1 },
        }
    }

    #[test]
    fn another_version_is_told_both_numbers() {
        assert_eq!(check_version(&hello()), Ok(()));
        let refused = check_version(&Hello { version: 9, ..hello() }).unwrap_err();
        assert_eq!(refused.code, RefuseCode::Version);
        assert!(refused.message.contains("version 4") && refused.message.contains('9'), "{refused}");
    }

    #[test]
    fn only_the_certificates_own_camera_comes_in() {
        assert_eq!(check_camera(&hello(), &identity(Role::Camera, Some("gate"))), Ok(()));
        let other = check_camera(&hello(), &identity(Role::Camera, Some("roof"))).unwrap_err();
        assert_eq!(other.code, RefuseCode::Camera);
        assert!(other.message.contains("roof") && other.message.contains("gate"));
        let operator = check_camera(&hello(), &identity(Role::Operator, None)).unwrap_err();
        assert_eq!(operator.code, RefuseCode::Role);
        assert_eq!(
            check_camera(&hello(), &identity(Role::Camera, None)).unwrap_err().code,
            RefuseCode::Camera
        );
    }

    #[test]
    fn one_head_in_the_right_space_is_enough() {
        let (ours, theirs) = (SpaceId([1; 32]), SpaceId([2; 32]));
        let with = |spaces: &[SpaceId]| Hello { spaces: spaces.to_vec(), ..hello() };
        assert_eq!(check_space(&with(&[]), &welcome(ours)), Ok(()));
        assert_eq!(check_space(&with(&[theirs, ours]), &welcome(ours)), Ok(()));
        let refused = check_space(&with(&[theirs; 9]), &welcome(ours)).unwrap_err();
        assert_eq!(refused.code, RefuseCode::Space);
        assert!(refused.message.contains(&ours.short()) && refused.message.contains(&theirs.short()));
    }

    #[test]
    fn a_second_process_waits_until_the_first_is_silent() {
        let now = Instant::now();
        let address = "192.0.2.7:999".parse().unwrap();
        let holder = Holder { instance: 7, heard: now, address };
        assert_eq!(decide(None, 8, now, SILENCE), Verdict::Admit);
        assert_eq!(decide(Some(&holder), 7, now, SILENCE), Verdict::Replace);
        assert_eq!(decide(Some(&holder), 8, now + SILENCE, SILENCE), Verdict::Replace);
        let just_before = now + SILENCE - Duration::from_millis(1);
        let Verdict::Refuse(refused) = decide(Some(&holder), 8, just_before, SILENCE) else {
            panic!("a holder heard from within the silence keeps its place")
        };
        assert_eq!(refused.code, RefuseCode::Duplicate);
        assert!(refused.message.contains("192.0.2.7:999") && refused.message.contains("pki issue"));
    }
}
