//! What a card's tensor cores reach: the measure that an encoder's speed is a share of.

use std::time::Instant;

use super::CudaError;
use super::driver::{Device, Machine};
use super::layers::Layer;
use super::plan::{Builder, Element, Step};

/// Rows, columns and steps of the product: large enough that nothing but the products counts.
const SIDE: usize = 8192;
/// Products before the clock starts, and that count.
const WARM: usize = 5;
const TIMES: usize = 30;

/// Operations a second of bf16 products with f32 sums, through cuBLASLt.
///
/// # Errors
/// No such card, or one that fails.
pub fn matrix_rate(device: usize) -> Result<f64, CudaError> {
    let device = Device::open(device)?;
    let mut builder = Builder::new(Element::Bf16, 1);
    // Numbers of all kinds: zeros would take less power, and run faster than any real product.
    let numbers: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 8191) as f32 / 4096.0 - 1.0).collect();
    let layer = Layer::new(&mut builder, (&numbers, &vec![0.0; SIDE]), Element::Bf16);
    let left = builder.matrix("left", Element::Bf16, (&numbers, SIDE));
    let out = builder.rows("out", Element::Bf16, (SIDE, SIDE));
    let step = Step::Product(layer.product(&left, &out, SIDE));
    let mut machine = Machine::new(device, &mut builder.plan)?;
    machine.run(std::iter::repeat_n(&step, WARM), 1)?;
    machine.finish()?;
    let start = Instant::now();
    machine.run(std::iter::repeat_n(&step, TIMES), 1)?;
    machine.finish()?;
    let operations = 2.0 * (SIDE as f64).powi(3) * TIMES as f64;
    Ok(operations / start.elapsed().as_secs_f64())
}
