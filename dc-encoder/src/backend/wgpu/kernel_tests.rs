//! Kernels against plain loops in f64, on shapes that fill no tile.

use wgpu::{BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor, MapMode};

use super::attention::{Heads, Part};
use super::gpu::{Gpu, Matrix};
use super::layers::{Finish, Groups, Layer, Norm};
use super::steps::{Builder, Step};
use crate::backend::source::Source;

fn gpu() -> Gpu {
    Gpu::open(0).unwrap_or_else(|error| panic!("{error}"))
}

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

fn matrix(gpu: &Gpu, numbers: &[f32], cols: usize) -> Matrix {
    let matrix = Matrix::zeros(gpu, "test", numbers.len() / cols, cols);
    matrix.write(gpu, 0, numbers);
    matrix
}

/// Runs steps for `frames` frames and reads a matrix.
fn run(gpu: &Gpu, steps: &[Step], frames: usize, result: &Matrix) -> Vec<f32> {
    let words = result.rows * result.stride;
    let download = gpu.buffer("test", words, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
    let mut commands = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    let mut pass = commands.begin_compute_pass(&ComputePassDescriptor::default());
    steps.iter().for_each(|step| step.record(&mut pass, frames));
    drop(pass);
    commands.copy_buffer_to_buffer(&result.buffer, 0, &download, 0, 4 * words as u64);
    gpu.queue.submit([commands.finish()]);
    download.map_async(MapMode::Read, .., gpu.noting());
    gpu.wait().unwrap();
    let view = download.get_mapped_range(..).unwrap();
    let numbers: Vec<f32> = view.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    numbers.chunks_exact(result.stride).flat_map(|row| row[..result.cols].to_vec()).collect()
}

fn assert_close(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f64, |most, v| most.max(v.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() < 1e-5 * largest, "{at}: {got} {want}");
    }
}

/// Weights `[out, input]` and a bias under a name.
fn weights(shapes: &[(&str, &[f32], &[usize])]) -> std::collections::HashMap<String, candle_core::Tensor> {
    let tensor = |numbers: &[f32], shape: &[usize]| {
        candle_core::Tensor::from_vec(numbers.to_vec(), shape, &candle_core::Device::Cpu).unwrap()
    };
    shapes.iter().map(|(name, numbers, shape)| ((*name).to_owned(), tensor(numbers, shape))).collect()
}

#[test]
fn a_linear_layer_stores_adds_and_takes_gelu() {
    const ROWS: usize = 70;
    const INPUT: usize = 21;
    const OUT: usize = 67;
    let (gpu, from, weight) = (gpu(), wave(ROWS * INPUT, 0.37), wave(OUT * INPUT, 1.91));
    let bias = wave(OUT, 0.71);
    let weights = weights(&[("l.weight", &weight, &[OUT, INPUT]), ("l.bias", &bias, &[OUT])]);
    let layer = Layer::read(&gpu, &Source { weights: &weights }, "l", OUT).unwrap();
    let plain: Vec<f64> = (0..ROWS * OUT)
        .map(|at| {
            let (row, out) = (&from[at / OUT * INPUT..][..INPUT], &weight[at % OUT * INPUT..][..INPUT]);
            let sum: f64 = row.iter().zip(out).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            sum + f64::from(bias[at % OUT])
        })
        .collect();
    let operand = matrix(&gpu, &from, INPUT);
    let builder = &mut Builder::new(&gpu, 1);
    let gelu = |x: &f64| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
    for (finish, want) in [
        (Finish::Store, plain.clone()),
        (Finish::Gelu, plain.iter().map(gelu).collect()),
        (Finish::Add, plain.iter().map(|value| value + 1.0).collect()),
    ] {
        let to = matrix(&gpu, &[1.0; ROWS * OUT], OUT);
        let step = builder.linear(&layer, (&operand, &to), finish, ROWS);
        assert_close(&run(&gpu, &[step], 1, &to), &want);
    }
}

#[test]
fn a_norm_does_not_cancel_beside_a_large_mean() {
    const ROWS: usize = 5;
    const COLS: usize = 37;
    let gpu = gpu();
    let from: Vec<f32> = wave(ROWS * COLS, 0.9).iter().map(|value| value + 100.0).collect();
    let (weight, bias) = (wave(COLS, 0.3), wave(COLS, 0.2));
    let weights = weights(&[("n.weight", &weight, &[COLS]), ("n.bias", &bias, &[COLS])]);
    let norm = Norm::read(&gpu, &Source { weights: &weights }, "n", 1e-5).unwrap();
    let (operand, to) = (matrix(&gpu, &from, COLS), Matrix::zeros(&gpu, "to", ROWS, COLS));
    let step = Builder::new(&gpu, 1).norm(&norm, (&operand, &to), ROWS);
    let got = run(&gpu, &[step], 1, &to);
    for (got, row) in got.chunks_exact(COLS).zip(from.chunks_exact(COLS)) {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / COLS as f64;
        let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / COLS as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        let each = row.iter().zip(&weight).zip(&bias);
        let want: Vec<f64> =
            each.map(|((v, w), b)| (f64::from(*v) - mean) * scale * f64::from(*w) + f64::from(*b)).collect();
        // The mean itself is 100, in f32: its last bit is 8e-6.
        let off = got.iter().zip(&want).fold(0f64, |most, (a, b)| most.max((f64::from(*a) - b).abs()));
        assert!(off < 5e-5, "{off}");
    }
}

#[test]
fn attention_to_large_scores_does_not_overflow() {
    const TOKENS: usize = 37;
    const WIDTH: usize = 6;
    const HEADS: usize = 2;
    const INNER: usize = HEADS * WIDTH;
    let gpu = gpu();
    // Scores up to several hundred: their powers are infinite without the largest subtracted.
    let qkv: Vec<f32> = wave(2 * TOKENS * 3 * INNER, 0.77).iter().map(|value| 12.0 * value).collect();
    let (operand, to) = (matrix(&gpu, &qkv, 3 * INNER), Matrix::zeros(&gpu, "to", 2 * TOKENS, INNER));
    let heads = Heads::new(HEADS, WIDTH, 16 << 10).unwrap();
    let part = |part: usize| Part { matrix: &operand, first: part * INNER, rows: TOKENS };
    let step = Builder::new(&gpu, 2).attend(&heads, [part(0), part(1), part(2)], &to);
    let got = run(&gpu, &[step], 2, &to);
    let number = |row: usize, part: usize, col: usize| f64::from(qkv[(row * 3 + part) * INNER + col]);
    let want: Vec<f64> = (0..2 * TOKENS * INNER)
        .map(|at| {
            let (row, col) = (at / INNER, at % INNER);
            let (frame, head) = (row / TOKENS * TOKENS, col / WIDTH * WIDTH);
            let score = |key: usize| {
                let dot: f64 =
                    (head..head + WIDTH).map(|i| number(row, 0, i) * number(frame + key, 1, i)).sum();
                dot / (WIDTH as f64).sqrt()
            };
            let most = (0..TOKENS).map(score).fold(f64::MIN, f64::max);
            let powers = (0..TOKENS).map(|key| (score(key) - most).exp());
            let total: f64 = powers.clone().sum();
            powers.enumerate().map(|(key, power)| power * number(frame + key, 2, col)).sum::<f64>() / total
        })
        .collect();
    let largest = want.iter().fold(0f64, |most, v| most.max(v.abs()));
    let off = got.iter().zip(&want).fold(0f64, |most, (a, b)| most.max((f64::from(*a) - b).abs()));
    // A score of 300 in f32 is off by up to 3e-5, and its power by that share.
    assert!(off < 2e-4 * largest, "{off}");
}

#[test]
fn means_are_of_each_frames_own_rows() {
    let gpu = gpu();
    let from = matrix(&gpu, &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], 1);
    let to = Matrix::zeros(&gpu, "to", 4, 1);
    let groups = Groups::new(&gpu, &[vec![0, 2], vec![1]]);
    let step = Builder::new(&gpu, 2).means(&groups, (&from, &to), 3);
    assert_close(&run(&gpu, &[step], 2, &to), &[2.0, 2.0, 20.0, 20.0]);
}

#[test]
fn a_lost_device_is_an_error_that_names_it() {
    let gpu = gpu();
    let to = Matrix::zeros(&gpu, "to", 4, 4);
    gpu.device.destroy();
    to.write(&gpu, 0, &[1.0; 16]);
    gpu.queue.submit(None);
    let error = gpu.wait().unwrap_err().to_string();
    assert!(error.contains(&gpu.name) && error.contains("failed"), "{error}");
}

#[test]
fn more_memory_than_there_is_is_an_error_that_names_the_device() {
    let gpu = gpu();
    let most = gpu.device.limits().max_buffer_size;
    gpu.memory("too large", usize::try_from(most / 4 + 1).unwrap());
    let error = gpu.check().unwrap_err().to_string();
    assert!(error.contains(&gpu.name), "{error}");
}
