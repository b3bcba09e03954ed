use attention_core::AttentionError;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::ops::{AttentionOptions, try_differential_attention};

/// What differential attention learns beside its projections. The first half of the heads is one
/// map, the second half the one that is subtracted; a value is two value heads, `j` and
/// `j + kv_heads / 2`, side by side.
///
/// ```text
/// lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init
/// out    = (1 - lambda_init) * norm((map1 - lambda map2) v)
/// ```
///
/// Ye et al. 2024, Differential Transformer, <https://arxiv.org/abs/2410.05258>
#[derive(Module, Debug)]
pub struct DifferentialHeads {
    /// `[head_dim]`
    pub lambda_q1: Param<Tensor<1>>,
    /// `[head_dim]`
    pub lambda_k1: Param<Tensor<1>>,
    /// `[head_dim]`
    pub lambda_q2: Param<Tensor<1>>,
    /// `[head_dim]`
    pub lambda_k2: Param<Tensor<1>>,
    lambda_init: f64,
    epsilon: f64,
}

impl DifferentialHeads {
    pub(super) fn new(head_dim: usize, lambda_init: f64, epsilon: f64, device: &Device) -> Self {
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.1,
        };
        let lambda = || normal.init([head_dim], device);
        Self {
            lambda_q1: lambda(),
            lambda_k1: lambda(),
            lambda_q2: lambda(),
            lambda_k2: lambda(),
            lambda_init,
            epsilon,
        }
    }

    /// Queries, keys and values of all heads `[batch, heads, seq, head_dim]` to
    /// `[batch, heads / 2, seq_q, 2 * head_dim]`.
    pub(super) fn attend(
        &self,
        [query, key, value]: [Tensor<4>; 3],
        options: AttentionOptions,
    ) -> Result<Tensor<4>, AttentionError> {
        let value = Tensor::cat(halves(value).to_vec(), 3);
        let out =
            try_differential_attention(halves(query), halves(key), value, self.lambda(), options)?;
        let dtype = out.dtype();
        let out = out.cast(DType::F32);
        let length = out
            .clone()
            .square()
            .mean_dim(3)
            .add_scalar(self.epsilon)
            .sqrt();
        let out = (out / length).mul_scalar(1.0 - self.lambda_init);
        Ok(out.cast(dtype))
    }

    fn lambda(&self) -> Tensor<1> {
        let exponential = |a: &Param<Tensor<1>>, b: &Param<Tensor<1>>| {
            let product = a.val().cast(DType::F32) * b.val().cast(DType::F32);
            product.sum().exp()
        };
        exponential(&self.lambda_q1, &self.lambda_k1)
            - exponential(&self.lambda_q2, &self.lambda_k2)
            + self.lambda_init
    }
}

/// The first and the second half of the heads.
fn halves(heads: Tensor<4>) -> [Tensor<4>; 2] {
    let half = heads.dims()[1] / 2;
    [0, half].map(|first| heads.clone().slice_dim(1, first..first + half))
}
