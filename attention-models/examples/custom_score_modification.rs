//! A score modification written from scratch: fused, and learned.
//!
//! `cargo run --workspace --example custom_score_modification`
//!
//! Every head learns how much it likes each distance, up to 7 tokens; beyond, all distances are alike.

use attention_models::ops::{
    AttentionOptions, Captured, CausalAlignment, Lanes, Place, ScoreMod, attention,
};
use burn::tensor::{Device, Distribution, Tensor};
use cubecl::prelude::*;

const HEADS: usize = 4;
const DISTANCES: usize = 8;

/// The distance of each pair of query and key; the table's last slot serves all that are larger.
#[cube]
fn distance(at: &Place, _captured: &Captured) -> Vector<u32, Lanes> {
    max(at.query, at.key) - min(at.query, at.key)
}

fn main() {
    let device = Device::flex().autodiff();
    let random = || Tensor::<4>::random([1, HEADS, 128, 32], Distribution::Default, &device);
    let (query, key, value) = (random(), random(), random());
    let terms = Tensor::<1>::zeros([HEADS * DISTANCES], &device).require_grad();

    let liking = ScoreMod::lookup(terms.clone(), DISTANCES as u32, distance::expand);
    let options = AttentionOptions::default()
        .with_causal(CausalAlignment::BottomRight)
        .with_score_mod(liking);
    let out = attention(query, key, value.clone(), options);

    // How each query can come nearer to its own value.
    let gradients = (out - value).powi_scalar(2).mean().backward();
    let gradient = terms.grad(&gradients).expect("the table is learned");
    println!("gradient of the terms, a row for each head, a column for each distance:");
    println!("{}", gradient.reshape([HEADS, DISTANCES]));
}
