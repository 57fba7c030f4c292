//! `[energy]` in the server's configuration.

use serde::Deserialize;

use crate::serve::config::{Invalid, ensure};

/// Most watts, or grams a kilowatt-hour, that are no slip of the pen.
const MOST: f64 = 1e6;

/// Where the encoder's energy comes from, and what is assumed of what cannot be metered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Energy {
    /// Where the encoder is, in words; stands on the ledger.
    pub site: String,
    /// Grams of carbon dioxide for a kilowatt-hour there; without it the ledger shows joules alone.
    pub grid_gco2_per_kwh: Option<f64>,
    /// Where joules come from.
    pub meter: MeterChoice,
    /// For the model: what the device draws while it encodes, in watts. Without it, a processor's cores count with
    /// 3.75 W each, and a GPU without a meter has no energy.
    pub busy_watts: Option<f64>,
    /// For the model: what it draws while it waits, in watts.
    pub idle_watts: f64,
    /// The kind of camera box.
    #[serde(rename = "box")]
    pub camera_box: BoxPower,
}

impl Default for Energy {
    fn default() -> Self {
        Self {
            site: String::new(),
            grid_gco2_per_kwh: None,
            meter: MeterChoice::default(),
            busy_watts: None,
            idle_watts: 0.0,
            camera_box: BoxPower::default(),
        }
    }
}

/// Where joules come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeterChoice {
    /// A meter of the device in use, else the model.
    #[default]
    Auto,
    /// The processor's counters (Running Average Power Limit), all of the package, whoever uses it.
    Rapl,
    /// NVIDIA's counters (NVML) of the GPU in use.
    Nvml,
    /// Time in use × watts.
    Model,
}

/// What a camera box is assumed to draw and to do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxPower {
    /// What it is called.
    pub name: String,
    /// Processor cores.
    pub cores: u32,
    /// What it draws while nothing runs, in watts.
    pub idle_watts: f64,
    /// What it draws while all cores work, in watts.
    pub busy_watts: f64,
    /// Its peak in f32, in thousand million operations a second.
    pub gflops: f64,
    /// Where the figures are from.
    pub source: String,
}

/// Measured at the supply: idle 2.2 W, high load 5.4 W (chipwired.com/raspberry-pi-power-use). Peak: four cores, 1.5 GHz,
/// one 128-bit multiply-add a cycle.
impl Default for BoxPower {
    fn default() -> Self {
        Self {
            name: "Raspberry Pi 4".to_owned(),
            cores: 4,
            idle_watts: 2.2,
            busy_watts: 5.4,
            gflops: 48.0,
            source: "2.2 W idle, 5.4 W busy: chipwired.com/raspberry-pi-power-use".to_owned(),
        }
    }
}

impl Energy {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The key, the value and what it may be.
    pub fn validate(&self) -> Result<(), Invalid> {
        let BoxPower { cores, idle_watts, busy_watts, gflops, .. } = self.camera_box;
        let powers = [
            ("energy.grid_gco2_per_kwh", self.grid_gco2_per_kwh.unwrap_or_default()),
            ("energy.busy_watts", self.busy_watts.unwrap_or_default()),
            ("energy.idle_watts", self.idle_watts),
            ("energy.box.idle_watts", idle_watts),
            ("energy.box.busy_watts", busy_watts),
        ];
        for (key, value) in powers {
            ensure((0.0..=MOST).contains(&value), key, value, "must be between 0 and 1000000")?;
        }
        let idle = format!("must be at least energy.box.idle_watts, {idle_watts}");
        ensure(busy_watts >= idle_watts, "energy.box.busy_watts", busy_watts, &idle)?;
        ensure((1..=4096).contains(&cores), "energy.box.cores", cores, "must be between 1 and 4096")?;
        let peak = gflops.is_finite() && gflops > 0.0;
        ensure(peak, "energy.box.gflops", gflops, "must be a number above 0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(Energy::default().validate(), Ok(()));
        let refused = |energy: Energy| energy.validate().unwrap_err().to_string();
        let error = refused(Energy { idle_watts: f64::NAN, ..Energy::default() });
        assert!(error.starts_with("energy.idle_watts = NaN: must be between"), "{error}");
        let camera_box = BoxPower { busy_watts: 1.0, ..BoxPower::default() };
        let error = refused(Energy { camera_box, ..Energy::default() });
        assert!(
            error.contains("energy.box.busy_watts = 1: must be at least energy.box.idle_watts, 2.2"),
            "{error}"
        );
        let camera_box = BoxPower { gflops: 0.0, ..BoxPower::default() };
        assert!(refused(Energy { camera_box, ..Energy::default() }).contains("energy.box.gflops = 0"));
    }
}
