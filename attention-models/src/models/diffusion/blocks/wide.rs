//! Attention whose heads are wider than the kernels take: the autoencoder of Stable Diffusion has
//! one head of 512.

use attention_core::MAX_HEAD_DIM;
use burn::tensor::Tensor;

use crate::ops::{AttentionOptions, attention};

/// Rows of scores that exist at one time.
const ROWS: usize = 256;

/// Attention over heads of any width. Products of the first [`MAX_HEAD_DIM`] columns of queries and
/// keys are the kernel's; those of the others come as its bias, for a block of rows at a time. Each
/// part of the values is attended to on its own.
pub(in crate::models::diffusion) fn attend_wide(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
) -> Tensor<4> {
    let [_, _, rows, width] = query.dims();
    let value_width = value.dims()[3];
    let scale = (width as f64).powf(-0.5);
    let columns = |tensor: &Tensor<4>, from: usize, to: usize| {
        let to = to.min(tensor.dims()[3]);
        tensor.clone().slice_dim(3, from..to)
    };
    let near_key = columns(&key, 0, MAX_HEAD_DIM);
    let far_key = columns(&key, MAX_HEAD_DIM, width).transpose();

    let block = |start: usize| {
        let query = query.clone().slice_dim(2, start..(start + ROWS).min(rows));
        let far = columns(&query, MAX_HEAD_DIM, width).mul_scalar(scale);
        let options = AttentionOptions::default()
            .with_scale(scale)
            .with_bias(far.matmul(far_key.clone()));
        let near = columns(&query, 0, MAX_HEAD_DIM);
        let parts = (0..value_width).step_by(MAX_HEAD_DIM).map(|from| {
            let value = columns(&value, from, from + MAX_HEAD_DIM);
            attention(near.clone(), near_key.clone(), value, options.clone())
        });
        Tensor::cat(parts.collect(), 3)
    };
    Tensor::cat((0..rows).step_by(ROWS).map(block).collect(), 2)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance, activation::softmax};

    use super::*;

    #[test]
    fn heads_of_600_columns_attend_as_by_the_formula() {
        let device = Device::flex();
        let random = |tokens| {
            let shape = [2, 1, tokens, 600];
            Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device)
        };
        let (query, key, value) = (random(300), random(31), random(31));
        let scores = query.clone().matmul(key.clone().transpose());
        let weights = softmax(scores.div_scalar(600f64.sqrt()), 3);
        let expected = weights.matmul(value.clone()).into_data();
        attend_wide(query, key, value)
            .into_data()
            .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }
}
