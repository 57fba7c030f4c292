//! Pillow's and numpy's reference numbers (`golden/make.py`).

use serde::Deserialize;

#[derive(Deserialize)]
pub struct Golden {
    pub resize: Vec<Resize>,
    pub jpeg: Vec<Jpeg>,
    pub cmyk: Hex,
    pub normalise: Normalise,
}

#[derive(Deserialize)]
pub struct Resize {
    pub name: String,
    pub picture: String,
    pub source: (u32, u32),
    pub target: (u32, u32),
    pub pixels: Hex,
}

#[derive(Deserialize)]
pub struct Jpeg {
    pub name: String,
    pub size: (u32, u32),
    pub jpeg: Hex,
    pub pixels: Hex,
}

#[derive(Deserialize)]
pub struct Normalise {
    pub width: u32,
    pub height: u32,
    pub seed: u32,
    pub values: Vec<f32>,
}

/// Bytes that the file holds as hexadecimal digits.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
        bytes.collect::<Result<_, _>>().map(Self)
    }
}

pub fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/pixels.json")).unwrap()
}
