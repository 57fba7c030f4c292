//! `make cuda-kernels`: the kernels of the CUDA path through NVIDIA's compiler, down to machine code.
//!
//! ```text
//! every preset, and shapes with every kind of kernel ─► f32, bf16 ─► A100 (8.0), H100 and H200 (9.0)
//! ```
//! It needs NVRTC and no card. Any kernel that does not compile is an error, and so is a missing NVRTC: nothing is skipped.
#![allow(missing_docs)]

use std::time::Instant;

use anyhow::Context as _;
use dc_encoder::backend::{Precision, cuda};
use dc_encoder::model::config::{Attention, Pooling};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::{Config, init};

const CAPABILITIES: [(i32, i32); 2] = [(8, 0), (9, 0)];

fn main() -> anyhow::Result<()> {
    println!("{:<24}{:<10}{:>6}{:>12}{:>10}", "model", "precision", "sm", "code", "seconds");
    for (name, config) in models()? {
        // One block has every kernel that more of them have.
        let config = Config { depth: 1, decoder: None, ..config };
        let weights = init::random(&config, 1)?;
        for precision in [Precision::F32, Precision::Bf16] {
            for (major, minor) in CAPABILITIES {
                let started = Instant::now();
                let code = cuda::compile(&config, &weights, (precision, (major, minor)))
                    .with_context(|| format!("{name} in {precision} for sm_{major}{minor}"))?;
                println!(
                    "{name:<24}{:<10}{:>6}{:>12}{:>10.1}",
                    precision.to_string(),
                    format!("{major}{minor}"),
                    bytesize::ByteSize(code as u64).to_string(),
                    started.elapsed().as_secs_f64()
                );
            }
        }
    }
    Ok(())
}

/// The presets, and what none of them has.
fn models() -> anyhow::Result<Vec<(String, Config)>> {
    let preset = |name: &str| Ok::<_, anyhow::Error>(Preset::find(name).context(name.to_owned())?.config());
    let mut models = Vec::new();
    for name in ["demo", "seed-80m", "hires", "hires-fine"] {
        models.push((name.to_owned(), preset(name)?));
    }
    let odd = Config {
        dim_head: 50,
        attention: Attention::Nystrom,
        conv_kernel: 33,
        class_token: true,
        pooling: Pooling::Regions { version: 1, rows: 2, cols: 4 },
        landmarks: 100,
        ..preset("seed-80m")?
    };
    models.push(("odd heads, convolution".to_owned(), odd));
    models.push(("widest heads".to_owned(), Config { heads: 2, dim_head: 304, ..preset("seed-80m")? }));
    Ok(models)
}
