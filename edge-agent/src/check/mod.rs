//! `edge-agent check`: everything a run needs, one line each, with what to do about it.
//!
//! ```text
//! config ─► identity ─► heads ─► source (one frame) ─► each encoder: link, model, heads' space ─► broker
//! ```

mod broker;
mod device;
mod encoder;
mod local;

use std::io::Write;

use shared::config::ConfigError;
use shared::report::Report;
pub use shared::report::{Item, Status};

use crate::capture::SourceUri;
use crate::config::{Invalid, Settings};

/// A configuration no run could start with.
#[derive(Debug)]
pub enum Unusable {
    /// The file.
    File(ConfigError),
    /// Values in it, in the environment or in flags.
    Values(Invalid),
}

/// Checks everything and prints one line per item to `out`; `true` if a run would work.
pub async fn check(settings: Result<Settings, Unusable>, out: &mut dyn Write) -> bool {
    let mut report = Report::new(out);
    let settings = match settings {
        Ok(settings) => settings,
        Err(Unusable::File(error)) => {
            report.add(&Item::fail(
                "config",
                error.to_string(),
                "`edge-agent example-config` shows every key",
            ));
            return false;
        }
        Err(Unusable::Values(Invalid(problems))) => {
            for problem in problems {
                let words = format!("{} = {}: {}", problem.key, problem.value, problem.problem);
                report.add(&Item::fail("config", words, problem.remedy));
            }
            return false;
        }
    };
    report.add(&Item::ok("config", "every key is understood"));
    let (identity, items) = local::identity(&settings);
    report.add_all(items);
    let (heads, items) = local::heads(&settings);
    report.add_all(items);
    if let SourceUri::Device(path) = &settings.source {
        report.add_all(device::check(path));
    }
    report.add_all(local::masks(&settings));
    report.add(&local::source(&settings).await);
    match identity {
        Some(identity) => encoder::check(&settings, &identity, &heads, &mut report).await,
        None => report.add(&Item::fail(
            "encoder",
            "not asked, because the identity cannot be used",
            "put the identity right first",
        )),
    }
    if let Some(mqtt) = &settings.mqtt {
        report.add_all(broker::check(mqtt, &settings.identity).await);
    }
    report.is_good()
}
