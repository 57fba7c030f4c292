// Exact GELU; the error function to 4e-7 absolute, with the coefficients of `model::ops`.
fn finish(row: u32, col: u32, value: f32) {
    let x = clamp(value * 0.70710678, -3.832507, 3.832507);
    let s = x * x;
    let top = (((2.2905066e-4 * s + 3.408291e-3) * s + 5.0955695e-2) * s + 0.18520832) * s + 1.1283792;
    let high = ((-1.1791603e-7 * s + 2.3547966e-5) * s + 1.0179625e-3) * s + 1.407047e-2;
    let low = ((high * s + 0.11098505) * s + 0.49746925) * s + 1.0;
    output[row * OUTPUT_STRIDE + col] = 0.5 * value * (1.0 + x * top / low);
}
