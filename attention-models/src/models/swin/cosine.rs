use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{
    DType, Device, Tensor, TensorData,
    activation::{relu, sigmoid},
};

/// Width of the network that makes the position terms.
const INNER: usize = 512;
/// The largest factor of a cosine.
const LARGEST_SCALE: f32 = 100.0;

/// What version 2 does instead of scaled dot products and a table: scores are cosines times a
/// learned factor, and the terms of positions come from a small network on the logarithms of
/// offsets, which goes on to larger windows (Liu et al. 2022, <https://arxiv.org/abs/2111.09883>).
#[derive(Module, Debug)]
pub struct CosineAttention {
    /// The logarithm of each head's factor, `[heads, 1, 1]`; a factor is at most 100.
    pub logit_scale: Param<Tensor<3>>,
    /// From the two offsets.
    pub inner: Linear,
    /// To a term for each head.
    pub outer: Linear,
    window: usize,
    pretrained_window: usize,
}

impl CosineAttention {
    pub(super) fn new(
        heads: usize,
        window: usize,
        pretrained_window: usize,
        device: &Device,
    ) -> Self {
        let value = 10f64.ln();
        Self {
            logit_scale: Initializer::Constant { value }.init([heads, 1, 1], device),
            inner: LinearConfig::new(2, INNER).init(device),
            outer: LinearConfig::new(INNER, heads)
                .with_bias(false)
                .init(device),
            window,
            pretrained_window: match pretrained_window {
                0 => window,
                pretrained => pretrained,
            },
        }
    }

    /// Queries of length 1 times the factor of their head, and keys of length 1:
    /// `[batch, heads, tokens, head_dim]`.
    pub(super) fn normalize(&self, query: Tensor<4>, key: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let unit = |vectors: Tensor<4>| {
            let dtype = vectors.dtype();
            let vectors = vectors.cast(DType::F32);
            let length = vectors.clone().square().sum_dim(3).sqrt();
            (vectors / length.clamp_min(1e-12)).cast(dtype)
        };
        let scale = self.logit_scale.val().clamp_max(LARGEST_SCALE.ln()).exp();
        (unit(query) * scale.unsqueeze_dim(0), unit(key))
    }

    /// The term of each offset and head, `[(2 * window - 1)^2, heads]`.
    pub(super) fn table(&self) -> Tensor<2> {
        let hidden = relu(
            self.inner
                .forward(self.offsets().cast(self.inner.weight.dtype())),
        );
        sigmoid(self.outer.forward(hidden)).mul_scalar(16.0)
    }

    /// Offsets by rows and columns, as `sign(8 o) log2(1 + |8 o|) / 3` of `o`, which is 1 at the
    /// far side of the window.
    fn offsets(&self) -> Tensor<2> {
        let reach = self.window as i32 - 1;
        let unit = (self.pretrained_window.max(2) - 1) as f32;
        let coordinate = |offset: i32| {
            let offset = offset as f32 / unit * 8.0;
            offset.signum() * (offset.abs() + 1.0).log2() / 3.0
        };
        let offsets = (-reach..=reach)
            .flat_map(|y| (-reach..=reach).flat_map(move |x| [coordinate(y), coordinate(x)]));
        let values: Vec<f32> = offsets.collect();
        let count = values.len() / 2;
        let device = self.inner.weight.device();
        Tensor::from_data(TensorData::new(values, [count, 2]), &device)
    }
}
