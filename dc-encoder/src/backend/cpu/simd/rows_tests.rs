//! Rows by AVX-512 and in plain Rust against the same in f64, at lengths that fill no register.

use super::super::blocks::{Block, MatMut};
use super::super::finish::{
    Bytes, Finish, Words, finish_adding, finish_centre, finish_storing, finish_words,
};
use super::super::pool::Pool;
use super::super::words::{bytes, words_of};
use super::*;

const LENGTHS: [usize; 6] = [1, 7, 16, 31, 48, 203];

fn both() -> [Isa; 2] {
    [Isa::detect(), Isa::portable()]
}

/// Numbers that look random, from -3 to 3.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 6.0 - 3.0
    };
    (0..count).map(|_| next()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[track_caller]
fn close(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= tolerance * want.abs().max(1.0), "{at}: {got} {want}");
    }
}

#[test]
fn a_norm_has_the_rows_mean_and_deviation_taken_out() {
    for (isa, length) in both().into_iter().flat_map(|isa| LENGTHS.map(|length| (isa, length))) {
        let (row, weight, bias) = (numbers(length, 1), numbers(length, 2), numbers(length, 3));
        let mut got = vec![0f32; length];
        norm(isa, &row, Norm { weight: &weight, bias: &bias, eps: 1e-5 }, &mut got);
        let values = wide(&row);
        let mean = values.iter().sum::<f64>() / length as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / length as f64;
        let want: Vec<f64> = values
            .iter()
            .zip(wide(&weight).iter().zip(wide(&bias)))
            .map(|(v, (w, b))| (v - mean) / (variance + 1e-5).sqrt() * w + b)
            .collect();
        close(&got, &want, 1e-5);
    }
}

#[test]
fn packed_rows_read_back_within_their_format_and_leave_their_padding() {
    for (isa, length) in both().into_iter().flat_map(|isa| LENGTHS.map(|length| (isa, length))) {
        let row = numbers(length, 4);
        for (format, tolerance) in [(Format::F32, 0.0), (Format::Bf16, 1.0 / 256.0)] {
            let mut words = vec![0u32; format.words(length) + 3];
            pack_row(isa, &row, format, &mut words);
            let mut got = vec![0f32; length];
            unpack_row(isa, &words, format, &mut got);
            close(&got, &wide(&row), tolerance);
            assert_eq!(words[format.words(length)..], [0; 3]);
        }
        let mut words = vec![0u32; Format::Int8.words(length) + 2];
        pack_row(isa, &row, Format::Int8, &mut words);
        let [scale, zero] = [words[words.len() - 2], words[words.len() - 1]].map(f32::from_bits);
        let got: Vec<f32> = bytes(&words)[..length].iter().map(|b| scale * (f32::from(*b) - zero)).collect();
        assert!(scale <= 6.0 / 255.0 + 1e-6, "{scale}");
        for (got, want) in got.iter().zip(&row) {
            assert!((got - want).abs() <= scale, "{got} {want} {scale}");
        }
    }
}

#[test]
fn a_row_of_nothing_and_a_row_of_one_sign_become_bytes() {
    for isa in both() {
        for row in [[0f32; 20], [5.0; 20], [-2.5; 20]] {
            let mut words = [0u32; 7];
            pack_row(isa, &row, Format::Int8, &mut words);
            let (scale, zero) = (f32::from_bits(words[5]), f32::from_bits(words[6]));
            assert!(
                bytes(&words)[..20].iter().all(|b| (scale * (f32::from(*b) - zero) - row[0]).abs() < 0.02)
            );
        }
    }
}

/// Runs one `finish` over a block of `rows` by `cols` numbers.
fn finished<T: Send + Clone + Default>(
    (rows, cols): (usize, usize),
    run: impl Fn(&mut Block<'_, T>) + Sync,
    start: T,
) -> Vec<T> {
    let mut out = vec![start; rows * cols];
    let mut pool = Pool::new(vec![()]).unwrap();
    pool.over(MatMut::new(&mut out, (rows, cols), cols), (rows, cols), |(), _, mut block| run(&mut block));
    out
}

#[test]
fn sums_are_finished_with_bias_gelu_residual_and_position() {
    let (rows, cols, width) = (5, 26, 32);
    let (sums, bias, positions) = (numbers(rows * width, 5), numbers(width, 6), numbers(rows * cols, 7));
    let plain = |row: usize, col: usize| f64::from(sums[row * width + col]) + f64::from(bias[col]);
    let each = |of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..rows * cols).map(|at| of(at / cols, at % cols)).collect()
    };
    let gelu = |x: f64| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
    for isa in both() {
        let finish = Finish { width, bias: &bias, bytes: None };
        let words = |gelu| {
            let how = Words { format: Format::F32, gelu };
            let run = |block: &mut Block<'_, u32>| finish_words(isa, &sums, &finish, how, block);
            finished((rows, cols), run, 0u32)
        };
        close(floats(&words(None)), &each(&plain), 1e-6);
        close(floats(&words(Some(&[]))), &each(&|r, c| gelu(plain(r, c))), 2e-6);
        let less = each(&|r, c| gelu(plain(r, c)) - f64::from(bias[c]));
        close(floats(&words(Some(&bias))), &less, 2e-6);
        let adding = |block: &mut Block<'_, f32>| finish_adding(isa, &sums, &finish, block);
        close(&finished((rows, cols), adding, 2.5f32), &each(&|r, c| plain(r, c) + 2.5), 1e-6);
        let add = Some((&positions[..], cols));
        let storing = |block: &mut Block<'_, f32>| finish_storing(isa, &sums, &finish, add, block);
        let want = each(&|r, c| plain(r, c) + f64::from(positions[r * cols + c]));
        close(&finished((rows, cols), storing, 9f32), &want, 1e-6);
    }
}

#[test]
fn sums_of_bytes_are_read_with_their_scales_and_zeros() {
    let (rows, cols, width, stride) = (3, 30, 32, 5);
    let sums: Vec<f32> = numbers(rows * width, 8).iter().map(|v| (v * 1e4).round()).collect();
    let (scale, column): (Vec<f32>, Vec<f32>) = (numbers(width, 9), numbers(width, 10));
    let mut left = vec![0u32; rows * stride];
    for row in 0..rows {
        left[row * stride + 3] = (0.1f32 * (row + 1) as f32).to_bits();
        left[row * stride + 4] = (40.0f32 + row as f32).to_bits();
    }
    let bytes = Some(Bytes { rows: &left, stride, scale: &scale, sums: &column });
    let finish = Finish { width, bias: &vec![1.0; width], bytes };
    let want: Vec<f64> = (0..rows * cols)
        .map(|at| {
            let (row, col) = (at / cols, at % cols);
            let (by, zero) = (f64::from(0.1f32 * (row + 1) as f32), 40.0 + row as f64);
            let sum = f64::from(sums[row * width + col]) - zero * f64::from(column[col]);
            sum * by * f64::from(scale[col]) + 1.0
        })
        .collect();
    for isa in both() {
        let run = |block: &mut Block<'_, f32>| finish_storing(isa, &sums, &finish, None, block);
        close(&finished((rows, cols), run, 0f32), &want, 1e-5);
    }
}

#[test]
fn the_two_rows_of_a_centre_are_added_up_and_biased_once() {
    let (cols, width) = (30, 32);
    let (sums, bias) = (numbers(2 * width, 11), numbers(width, 12));
    let want: Vec<f64> =
        (0..cols).map(|c| [sums[c], sums[width + c], bias[c]].map(f64::from).iter().sum()).collect();
    for isa in both() {
        let mut to = vec![9f32; cols];
        finish_centre(isa, &sums, &Finish { width, bias: &bias, bytes: None }, &mut to);
        close(&to, &want, 1e-6);
    }
}

#[test]
fn rows_of_every_format_come_back_to_within_their_digits() {
    let values = numbers(37, 13);
    for isa in both() {
        for (format, words, tolerance) in
            [(Format::F32, 37, 0.0), (Format::Bf16, 19, 4e-3), (Format::Int8, 12, 0.013)]
        {
            let (mut row, mut back) = (vec![0u32; words], vec![0f32; values.len()]);
            pack_row(isa, &values, format, &mut row);
            unpack_row(isa, &row, format, &mut back);
            close(&back, &wide(&values), tolerance);
        }
    }
}

#[test]
fn softened_runs_of_keys_add_up_to_one_softmax() {
    // Three queries, 75 keys in runs of 64 and 11; the second run holds larger scores.
    let (rows, width, scale) = (3, 32, 0.5f32);
    let scores: Vec<Vec<f32>> = (0..rows)
        .map(|row| {
            numbers(75, 20 + row as u32).iter().enumerate().map(|(k, v)| v * 4.0 + k as f32 / 20.0).collect()
        })
        .collect();
    for isa in both() {
        let (mut largest, mut total) = (vec![f32::NEG_INFINITY; rows], vec![0f32; rows]);
        // Sums so far, as if every value were 1: they must fade as the totals do.
        let mut sums = vec![0f32; rows * width];
        for (first, keys) in [(0usize, 64usize), (64, 11)] {
            let panels = keys.div_ceil(width);
            let mut run = vec![7f32; panels * rows * width];
            for key in 0..keys {
                for (row, scores) in scores.iter().enumerate() {
                    run[(key / width * rows + row) * width + key % width] = scores[first + key];
                }
            }
            let mut powers = vec![0u32; rows * panels * width];
            let state = Softmax { largest: &mut largest, total: &mut total };
            let run = Scores { scores: &mut run, rows, keys, scale };
            soften(isa, run, state, &mut sums, (Format::F32, &mut powers, panels * width));
            for row in 0..rows {
                sums[row * width] += floats(&powers[row * panels * width..][..keys]).iter().sum::<f32>();
            }
        }
        for row in 0..rows {
            let most = scores[row].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let want: f64 = scores[row].iter().map(|s| f64::from(scale * (s - most)).exp()).sum();
            assert_eq!(largest[row], most);
            close(&[total[row], sums[row * width]], &[want, want], 1e-5);
        }
    }
}

#[test]
fn words_of_numbers_are_those_numbers() {
    let row = numbers(9, 30);
    assert_eq!(floats(words_of(&row)), row);
}
