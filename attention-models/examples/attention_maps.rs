//! What attention looked at: entropy, a pooled map and the keys attended to most.
//!
//! Run it with `cargo run --workspace --example attention_maps`, or with `--package attention-models`.

use attention_models::ops::{
    AttentionOptions, attention_entropy, attention_with_lse, gradient_times_attention,
    pooled_attention, top_keys,
};
use burn::tensor::{Device, Distribution, Tensor};

const TOKENS: usize = 256;
const HEAD_DIM: usize = 32;
const GRID: usize = 8;

fn main() {
    let device = Device::flex();
    let options = AttentionOptions::default();
    let (query, key) = neighbours(&device);
    let value = random([1, 2, TOKENS, HEAD_DIM], &device);
    let (out, lse) = attention_with_lse(query.clone(), key.clone(), value.clone(), options.clone());

    let entropy = attention_entropy(query.clone(), key.clone(), lse.clone(), options.clone());
    let means = floats(entropy.mean_dim(2));
    println!(
        "mean entropy in nats, of at most {:.2}:",
        (TOKENS as f32).ln()
    );
    println!("  head 0, by position: {:.2}", means[0]);
    println!("  head 1, at random:   {:.2}", means[1]);

    println!("mean of the heads, {TOKENS} tokens pooled to {GRID} cells:");
    let grid = [GRID, GRID];
    let pooled = pooled_attention(
        query.clone(),
        key.clone(),
        lse.clone(),
        grid,
        options.clone(),
    );
    for row in floats(pooled).chunks(GRID) {
        let row: Vec<_> = row.iter().map(|share| format!("{share:.2}")).collect();
        println!("  {}", row.join(" "));
    }

    println!("what token 100 looks at most in head 0:");
    let (shares, keys) = top_keys(query.clone(), key.clone(), lse.clone(), 5, options.clone());
    // The gradient of the sum of the outputs: what makes it large or small.
    let slopes = gradient_times_attention(query, key, value, lse, out.ones_like(), &[100], options);
    let slopes = floats(slopes);
    let shares = floats(shares.slice([0..1, 0..1, 100..101, 0..5]));
    let keys = keys.slice([0..1, 0..1, 100..101, 0..5]).into_data();
    for (key, share) in keys.iter::<i64>().zip(shares) {
        let slope = slopes[key as usize];
        println!("  token {key}: {share:.3}, times its gradient {slope:+.3}");
    }
    println!("a map shows how values were mixed, not why: https://arxiv.org/abs/1902.10186");
}

/// Queries and keys of two heads: in the first, tokens look at their neighbours.
fn neighbours(device: &Device) -> (Tensor<4>, Tensor<4>) {
    let angle = |token: usize, wave: usize| (token * (wave + 1)) as f32 * 0.02;
    let waves = |token: usize| {
        let phases = (0..HEAD_DIM / 2).map(move |wave| angle(token, wave));
        phases.flat_map(|angle| [2.0 * angle.sin(), 2.0 * angle.cos()])
    };
    let position: Vec<f32> = (0..TOKENS).flat_map(waves).collect();
    let position = Tensor::<1>::from_data(position.as_slice(), device);
    let position = position.reshape([1, 1, TOKENS, HEAD_DIM]);
    let beside = || {
        let other = random([1, 1, TOKENS, HEAD_DIM], device);
        Tensor::cat(vec![position.clone(), other], 1)
    };
    (beside(), beside())
}

fn random(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
