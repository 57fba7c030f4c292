//! The pseudo-inverse alone.

use dc_encoder::model::attention::pinv;

use super::case::{Case, LOOSE, Outcome};
use super::peer;

pub(crate) fn run(mut case: Case) -> Outcome {
    let a = case.input("a");
    let iterations = case.count("iters");
    case.check("z.matrix", &pinv(&a, iterations).unwrap(), LOOSE);
    case.check("z1.matrix", &pinv(&a, 1).unwrap(), LOOSE);
    case.check("z.global", &peer::pinv_global(&a, iterations), LOOSE);
    case.finish()
}
