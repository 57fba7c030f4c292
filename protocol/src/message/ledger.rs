//! Messages of the ledger: what a box computes, and the account that the encoder keeps of each camera.

use bincode::{Decode, Encode};

use crate::{
    CodecError,
    limits::{check_name, check_text},
};

/// What an agent computed since it started: counted from shapes, the time measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct EdgeWork {
    /// Frames that heads answered.
    pub frames: u64,
    /// Operations of all heads.
    pub head_flops: u64,
    /// Operations of resizing, and of decoding and encoding JPEGs.
    pub picture_flops: u64,
    /// Processor time of the agent, in microseconds.
    pub cpu_us: u64,
}

/// The account of one camera since the encoder started.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct CameraAccount {
    /// The camera.
    pub camera: String,
    /// Frames that were encoded for it.
    pub frames: u64,
    /// Operations of encoding them.
    pub flops: u64,
    /// Its share of the time that the device encoded, in microseconds.
    pub busy_us: u64,
    /// Its share of the encoder's energy, in joules.
    pub joules: f64,
    /// Bytes of UDP payload from its agent.
    pub received: u64,
    /// Bytes of UDP payload to its agent.
    pub sent: u64,
    /// What its agent said that it computed.
    pub edge: EdgeWork,
}

/// What all accounts have in common. Rates and tables are the server's configuration.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Site {
    /// Where the encoder is, in words. Often empty.
    pub name: String,
    /// Milliseconds since the accounts began.
    pub for_ms: u64,
    /// The model's name.
    pub model: String,
    /// Operations of a whole frame in the encoder.
    pub frame_flops: u64,
    /// How the encoder's energy is known, in words.
    pub power: String,
    /// Its energy was read from a meter.
    pub metered: bool,
    /// Energy of times in which no frame was encoded, in joules.
    pub idle_joules: f64,
    /// Grams of carbon dioxide for a kilowatt-hour at the site, where it was said.
    pub grid_gco2_per_kwh: Option<f64>,
    /// The camera box that is assumed.
    pub camera_box: BoxModel,
}

/// A kind of camera box, for what cannot be metered there.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct BoxModel {
    /// Its name, and where the figures are from.
    pub name: String,
    /// Processor cores.
    pub cores: u32,
    /// What it draws more when all cores work than when none does, in watts.
    pub extra_watts: f64,
    /// Its peak, in thousand million operations a second.
    pub gflops: f64,
}

impl CameraAccount {
    pub(super) fn validate(&self) -> Result<(), CodecError> {
        check_name("camera name", &self.camera)?;
        check_quantity("energy of a camera", self.joules)
    }
}

impl Site {
    pub(super) fn validate(&self) -> Result<(), CodecError> {
        check_name("site name", &self.name)?;
        check_name("model name", &self.model)?;
        check_text("words about power", &self.power)?;
        check_quantity("idle energy", self.idle_joules)?;
        check_quantity("carbon dioxide of a kilowatt-hour", self.grid_gco2_per_kwh.unwrap_or_default())?;
        check_text("name of the camera box", &self.camera_box.name)?;
        check_quantity("power of the camera box", self.camera_box.extra_watts)?;
        check_quantity("peak of the camera box", self.camera_box.gflops)
    }
}

fn check_quantity(field: &'static str, value: f64) -> Result<(), CodecError> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(CodecError::BadQuantity { field, value }) }
}
