//! Softcapping as code: what the option `softcap` has built in.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Place, ScoreMod};

/// `cap * tanh(score / cap)` (Gemma 2, <https://arxiv.org/abs/2408.00118>).
pub fn softcap<F, I>(cap: f32) -> ScoreMod<F, I> {
    ScoreMod::map(squashed::expand, derivative::expand).with_number(cap)
}

#[cube]
#[expect(unused_variables, reason = "every place is alike")]
fn squashed(score: Vector<f32, Lanes>, at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let cap = Vector::new(captured.number(0usize));
    Vector::tanh(score / cap) * cap
}

#[cube]
#[expect(unused_variables, reason = "every place is alike")]
fn derivative(score: Vector<f32, Lanes>, at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let ratio = Vector::tanh(score / Vector::new(captured.number(0usize)));
    Vector::new(1.0f32) - ratio * ratio
}
