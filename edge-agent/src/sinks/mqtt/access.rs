//! How a broker is reached, and what to do when it is not.

use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    ConnectReturnCode, ConnectionError, LastWill, MqttOptions, NetworkOptions, StateError, TlsConfiguration,
    TlsError, Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use shared::tls::{Floor, tls_error};

use crate::config::{Mqtt, Password};

/// After one and a half of these without a word the broker says that this box is gone.
const KEEP_ALIVE_SECONDS: u16 = 15;
/// From the first packet to the broker's welcome, and for a write that makes no progress.
const PATIENCE: Duration = Duration::from_secs(5);
/// A sensor with 16 classes of 32 characters is announced in 2 kB.
const LARGEST_PACKET: usize = 64 << 10;
/// Messages that the broker has not acknowledged.
const UNACKNOWLEDGED: u16 = 64;
/// A password file beyond this is another file.
const LARGEST_PASSWORD: u64 = 4096;

/// Why a broker is not told anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}; {remedy}")]
pub struct Trouble {
    /// The kind: a log line for each kind is enough.
    pub(super) kind: Kind,
    /// What is wrong: names the broker, and the user where that matters.
    pub words: String,
    /// What to do.
    pub remedy: String,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of this box cannot be read.
    File,
    /// Name or address.
    Unreachable,
    /// Nobody answers.
    Silent,
    /// Certificates.
    Tls,
    /// Name or password.
    Refused,
    /// The connection ended.
    Lost,
}

impl Trouble {
    pub(super) fn new(kind: Kind, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, words: words.into(), remedy: remedy.into() }
    }
}

/// What a connection is made with: files are read anew for each.
pub(super) fn options(
    mqtt: &Mqtt,
    client: &str,
    will: Option<LastWill>,
    floor: &Floor,
) -> Result<MqttOptions, Trouble> {
    let broker = rumqttc::Broker::tcp(mqtt.broker.host.clone(), mqtt.broker.port);
    let mut options = MqttOptions::new(client, broker);
    options
        .set_keep_alive(KEEP_ALIVE_SECONDS)
        .set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET)
        .set_inflight(UNACKNOWLEDGED);
    // The library writes an IPv6 address without its brackets.
    let socket = mqtt.broker.socket();
    options.set_socket_connector(move |_, network| rumqttc::default_socket_connect(socket.clone(), network));
    if mqtt.broker.tls {
        options.set_transport(Transport::tls_with_config(tls(mqtt, floor)?));
    }
    if let Some(will) = will {
        options.set_last_will(will);
    }
    if let Some(login) = &mqtt.login {
        match &login.password {
            None => options.set_username(&login.username),
            Some(Password::Given(secret)) => {
                options.set_credentials(&login.username, secret.reveal().to_owned())
            }
            Some(Password::File(path)) => options.set_credentials(&login.username, password(path)?),
        };
    }
    Ok(options)
}

/// Times and sockets of a connection.
pub(super) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(PATIENCE.as_secs());
    network.set_tcp_nodelay(true);
    network
}

fn password(path: &Path) -> Result<String, Trouble> {
    let remedy = "put the password into its first line, readable for the agent's user alone";
    let wrong = |why: &dyn std::fmt::Display| {
        Trouble::new(Kind::File, format!("mqtt.password_file = {path:?}: {why}"), remedy)
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    file.take(LARGEST_PASSWORD).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(wrong(&"its first line is empty")),
    }
}

fn tls(mqtt: &Mqtt, floor: &Floor) -> Result<TlsConfiguration, Trouble> {
    let remedy = "name the PEM file of whoever signed the broker's certificate: mqtt.ca";
    let Some(path) = &mqtt.ca else {
        return TlsConfiguration::try_default_rustls().map_err(|error| {
            let words = format!("the system's certificate authorities cannot be read: {error}");
            Trouble::new(Kind::File, words, format!("`apt-get install ca-certificates`, or {remedy}"))
        });
    };
    let wrong = |why: String| Trouble::new(Kind::File, format!("mqtt.ca = {path:?}: {why}"), remedy);
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Boxes without a battery start in 1970.
    let config = ClientConfig::builder_with_details(provider, Arc::new(floor.clone()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config.into())
}

/// A failure in plain words, with the remedy.
pub(super) fn explain(mqtt: &Mqtt, error: &ConnectionError) -> Trouble {
    let broker = &mqtt.broker;
    match error {
        ConnectionError::ConnectionRefused(code) => refused(mqtt, *code),
        ConnectionError::Tls(TlsError::Io(error)) => match tls_error(error) {
            Some(error) => certificate(mqtt, error),
            None => ended(mqtt, &error.to_string()),
        },
        ConnectionError::Tls(error) => Trouble::new(
            Kind::Tls,
            format!("no TLS with the broker {broker}: {error}"),
            "write the name or address that its certificate carries: mqtt.broker",
        ),
        ConnectionError::Io(error) => unreachable(mqtt, error),
        ConnectionError::NetworkTimeout
        | ConnectionError::FlushTimeout
        | ConnectionError::MqttState(StateError::AwaitPingResp) => Trouble::new(
            Kind::Silent,
            format!("the broker {broker} does not answer"),
            "look whether it runs, and whether a firewall lets its port through",
        ),
        ConnectionError::MqttState(StateError::Io(error)) => match tls_error(error) {
            Some(error) => certificate(mqtt, error),
            None => ended(mqtt, &error.to_string()),
        },
        other => ended(mqtt, &other.to_string()),
    }
}

fn refused(mqtt: &Mqtt, code: ConnectReturnCode) -> Trouble {
    let broker = &mqtt.broker;
    let who = match &mqtt.login {
        None => "a client without a name".to_owned(),
        Some(login) => format!("user {:?}", login.username),
    };
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            let place = match mqtt.login.as_ref().map(|login| &login.password) {
                None => "set mqtt.username and mqtt.password_file".to_owned(),
                Some(None) => "name the file with its password: mqtt.password_file".to_owned(),
                Some(Some(Password::File(path))) => format!("put the right password into {}", path.display()),
                Some(Some(Password::Given(_))) => {
                    format!("put the right password into {}", crate::config::PASSWORD_VARIABLE)
                }
            };
            let remedy = format!("{place}, or let it in at the broker (password file, ACL)");
            Trouble::new(Kind::Refused, format!("the broker {broker} refuses {who}"), remedy)
        }
        other => {
            let words = format!("the broker {broker} refuses this box: {other:?}");
            Trouble::new(Kind::Refused, words, "its log says why; it must speak MQTT 3.1.1")
        }
    }
}

fn certificate(mqtt: &Mqtt, error: &rustls::Error) -> Trouble {
    let broker = &mqtt.broker;
    let rustls::Error::InvalidCertificate(problem) = error else {
        return Trouble::new(
            Kind::Tls,
            format!("no TLS with the broker {broker}: {error}"),
            "is that its TLS port? mqtts:// is for that one (usually 8883), mqtt:// for the other (1883)",
        );
    };
    let (words, remedy) = match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "is signed by an authority that this box does not know".to_owned(),
            match &mqtt.ca {
                Some(path) => format!("put that authority's certificate into {}", path.display()),
                None => "copy that authority's certificate here, and name it: mqtt.ca".to_owned(),
            },
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("is not for {}", broker.host),
            "write a name in mqtt.broker that it is for, or give the broker another certificate".to_owned(),
        ),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => (
            "is not valid at this time".to_owned(),
            "set this box's clock (`timedatectl`), or give the broker another certificate".to_owned(),
        ),
        other => (format!("cannot be used: {other}"), "give the broker another certificate".to_owned()),
    };
    Trouble::new(Kind::Tls, format!("the certificate of the broker {broker} {words}"), remedy)
}

fn unreachable(mqtt: &Mqtt, error: &io::Error) -> Trouble {
    let broker = &mqtt.broker;
    match error.kind() {
        ErrorKind::ConnectionRefused => Trouble::new(
            Kind::Unreachable,
            format!("nothing listens where the broker {broker} should be"),
            "start it, or write the right port: mqtt.broker",
        ),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof => {
            ended(mqtt, &error.to_string())
        }
        _ => Trouble::new(
            Kind::Unreachable,
            format!("the broker {broker} is out of reach: {error}"),
            "look at its name and at the network: mqtt.broker",
        ),
    }
}

fn ended(mqtt: &Mqtt, how: &str) -> Trouble {
    let other =
        if mqtt.broker.tls { "does it speak TLS on this port" } else { "does it want TLS (mqtts://)" };
    Trouble::new(
        Kind::Lost,
        format!("the connection to the broker {} ended: {how}", mqtt.broker),
        format!("its log says why; {other}, or does another program use this box's client id?"),
    )
}

#[cfg(test)]
mod tests {
    use shared::secret::Secret;

    use crate::config::Login;

    use super::*;

    fn mqtt(password: Option<Password>) -> Mqtt {
        Mqtt {
            broker: "mqtts://broker.example".parse().unwrap(),
            ca: None,
            login: Some(Login { username: "plaza-1".into(), password }),
            topic: "fine-tuned-heads".into(),
            discovery: None,
            every: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_refused_password_is_named_by_its_place() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let told = |password| explain(&mqtt(password), &refused).to_string();
        let file = told(Some(Password::File("/etc/edge-agent/mqtt-password".into())));
        assert_eq!(
            file,
            "the broker mqtts://broker.example:8883 refuses user \"plaza-1\"; put the right password into \
             /etc/edge-agent/mqtt-password, or let it in at the broker (password file, ACL)"
        );
        let given = told(Some(Password::Given(Secret::new("hunter2".into()))));
        assert!(given.contains("FTH_MQTT_PASSWORD") && !given.contains("hunter2"), "{given}");
        assert!(told(None).contains("mqtt.password_file"));
    }

    #[test]
    fn trouble_is_told_apart() {
        let tls = |error: CertificateError| {
            let error = io::Error::new(ErrorKind::InvalidData, rustls::Error::from(error));
            ConnectionError::Tls(TlsError::Io(error))
        };
        for (error, kind, words) in [
            (ConnectionError::Io(ErrorKind::ConnectionRefused.into()), Kind::Unreachable, "nothing listens"),
            (ConnectionError::NetworkTimeout, Kind::Silent, "firewall"),
            (ConnectionError::MqttState(StateError::ConnectionAborted), Kind::Lost, "client id"),
            (tls(CertificateError::UnknownIssuer), Kind::Tls, "name it: mqtt.ca"),
            (tls(CertificateError::NotValidForName), Kind::Tls, "is not for broker.example"),
            (tls(CertificateError::Expired), Kind::Tls, "timedatectl"),
        ] {
            let trouble = explain(&mqtt(None), &error);
            assert_eq!(trouble.kind, kind, "{trouble}");
            assert!(trouble.to_string().contains(words), "{trouble}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let floor = Floor::over(shared::tls::system_time());
        let told = |mqtt: &Mqtt| options(mqtt, "a", None, &floor).unwrap_err().to_string();
        let ca = |path| Mqtt { ca: Some(path), ..mqtt(None) };
        assert!(told(&ca(at("ca.pem", "nothing"))).contains("ca.pem\": holds no certificate"));
        assert!(told(&ca(dir.path().join("missing.pem"))).contains("missing.pem"));
        let plain = |path| Mqtt {
            broker: "mqtt://broker.example".parse().unwrap(),
            ..mqtt(Some(Password::File(path)))
        };
        assert!(told(&plain(at("empty", "\nsecret\n"))).contains("its first line is empty"));
        assert!(told(&plain(dir.path().join("none"))).contains("mqtt.password_file"));
        assert_eq!(password(&at("good", "hunter2\r\n# a note\n")).as_deref(), Ok("hunter2"));
    }
}
