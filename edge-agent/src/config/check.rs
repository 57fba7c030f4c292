//! Values on their way into the settings; what is wrong with them is collected, so that one run shows it all.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::image::Mask;
use shared::uplink::Uplink;

use super::values::{self, Wrong};
use super::{MaskConfig, Problem, ServerAddr, UplinkConfig};
use crate::capture::{SourceUri, UriError};

/// A still scene is looked at anew this often.
const DEFAULT_REUSE: Duration = Duration::from_secs(2);

/// Collects problems while values pass through.
#[derive(Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
}

impl Check {
    pub(super) fn problem(&mut self, key: &'static str, value: String, (problem, remedy): Wrong) {
        self.problems.push(Problem { key, value, problem, remedy: remedy.to_owned() });
    }

    pub(super) fn optional<T: fmt::Debug, U>(
        &mut self,
        key: &'static str,
        value: Option<T>,
        check: fn(T) -> Result<U, Wrong>,
    ) -> Option<U> {
        let value = value?;
        let text = format!("{value:?}");
        check(value).map_err(|wrong| self.problem(key, text, wrong)).ok()
    }

    pub(super) fn missing(&mut self, key: &'static str, remedy: &'static str) {
        self.problem(key, "(not set)".into(), ("needed".into(), remedy));
    }

    pub(super) fn source(&mut self, source: Option<String>) -> SourceUri {
        // Only looked at when there is no problem.
        let nowhere = SourceUri::Folder(PathBuf::new());
        let Some(source) = source else {
            self.missing("source", "say where frames come from: --source URI");
            return nowhere;
        };
        source.parse().unwrap_or_else(|error: UriError| {
            let value = format!("{:?}", shared::telemetry::redact_url(&source));
            let remedy = "see `edge-agent run --help` for what a source can be";
            self.problem("source", value, (error.to_string(), remedy));
            nowhere
        })
    }

    pub(super) fn identity(&mut self, identity: Option<PathBuf>) -> PathBuf {
        identity.unwrap_or_else(|| {
            self.missing(
                "identity",
                "name the folder that `edge-agent enroll` made, or `dc-encoder pki issue`: --identity DIR",
            );
            PathBuf::new()
        })
    }

    pub(super) fn servers(&mut self, servers: Option<Vec<String>>) -> Vec<ServerAddr> {
        const REMEDY: &str = "write HOST:PORT, for example encoder.example:4433 or [::1]:4433";
        let servers = servers.unwrap_or_default();
        if servers.is_empty() {
            self.missing("servers", "name an encoder: --server HOST:PORT");
        }
        let mut addresses = Vec::with_capacity(servers.len());
        for server in servers {
            match server.trim().parse::<ServerAddr>() {
                Ok(address) => addresses.push(address),
                Err(problem) => self.problem("servers", format!("{server:?}"), (problem.into(), REMEDY)),
            }
        }
        addresses
    }

    pub(super) fn masks(&mut self, masks: Vec<MaskConfig>) -> Arc<[Mask]> {
        let mut checked = Vec::with_capacity(masks.len());
        for (number, mask) in (1..).zip(masks) {
            let text = format!("(number {number}) {mask}");
            match super::mask::mask(mask) {
                Ok(mask) => checked.push(mask),
                Err(wrong) => self.problem("mask", text, wrong),
            }
        }
        checked.into()
    }

    pub(super) fn uplink(&mut self, config: UplinkConfig) -> Uplink {
        let default = Uplink::default();
        Uplink {
            max_width: self
                .optional("uplink.max_width", config.max_width, values::side)
                .unwrap_or(default.max_width),
            max_height: self
                .optional("uplink.max_height", config.max_height, values::side)
                .unwrap_or(default.max_height),
            quality: self
                .optional("uplink.quality", config.quality, values::quality)
                .unwrap_or(default.quality),
            chroma: self.optional("uplink.chroma", config.chroma, values::chroma).unwrap_or(default.chroma),
            passthrough: config.passthrough.unwrap_or(default.passthrough),
            patches: self
                .optional("uplink.patches", config.patches, values::patches)
                .unwrap_or(default.patches),
        }
    }

    /// Nobody can tell that nothing changed where patches are not compared.
    pub(super) fn reuse_for(&mut self, config: &UplinkConfig) -> Duration {
        const KEY: &str = "uplink.reuse_for";
        let changed = config.patches.as_deref().is_some_and(|text| text.starts_with("changed"));
        let asked = self.optional(KEY, config.reuse_for, values::reuse_for);
        match asked {
            Some(time) if !time.is_zero() && !changed => {
                let (problem, remedy) =
                    ("needs patches that are compared", "set uplink.patches = \"changed\", or 0s");
                self.problem(KEY, format!("{time:?}"), (problem.into(), remedy));
                Duration::ZERO
            }
            Some(time) => time,
            None if changed => DEFAULT_REUSE,
            None => Duration::ZERO,
        }
    }
}
