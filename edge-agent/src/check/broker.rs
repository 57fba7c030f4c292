//! The MQTT broker: within reach, trusted, and letting this box in.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use shared::tls::Floor;

use super::Item;
use crate::config::{Mqtt, Password};
use crate::sinks::mqtt;

/// Asks the broker, and looks at what keeps the password a secret.
pub(super) async fn check(mqtt: &Mqtt, identity: &Path) -> Vec<Item> {
    let name = format!("broker {}", mqtt.broker);
    let mut items = vec![match mqtt::probe(mqtt, &Floor::beside(identity)).await {
        Ok(()) => Item::ok(&name, welcomed(mqtt)),
        // Frames are answered without it.
        Err(trouble) => Item::fail(&name, trouble.words, trouble.remedy),
    }];
    let Some(login) = &mqtt.login else { return items };
    if !mqtt.broker.tls && !mqtt.broker.is_local() && login.password.is_some() {
        items.push(Item::warn(
            &name,
            format!(
                "without TLS, everybody between here and there reads the password of {:?}",
                login.username
            ),
            "write mqtts:// if the broker has a TLS port, else use a password that opens nothing else",
        ));
    }
    if let Some(Password::File(path)) = &login.password
        && path.metadata().is_ok_and(|file| file.mode() & 0o007 != 0)
    {
        let words = format!("every user of this box can read {}", path.display());
        items.push(Item::warn("mqtt.password_file", words, format!("`chmod 640 {}`", path.display())));
    }
    items
}

fn welcomed(mqtt: &Mqtt) -> String {
    let tls = if mqtt.broker.tls { "TLS" } else { "no TLS" };
    let who = match &mqtt.login {
        Some(login) => format!("takes user {:?}", login.username),
        None => "takes this box without a name".to_owned(),
    };
    let discovery = mqtt.discovery.as_ref().map_or_else(
        || "sensors are not announced".to_owned(),
        |prefix| format!("sensors are announced under {prefix}/"),
    );
    format!("{tls}, {who}, answers go to {}/, {discovery}", mqtt.topic)
}
