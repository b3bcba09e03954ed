//! What the class token looks at, without ever holding the full matrix of probabilities.

use attention_core::AttentionError;
use burn::tensor::{DType, Tensor, TensorData};

use super::VisionTransformer;

/// Rows of the matrix of probabilities that exist at one time in a rollout.
const ROLLOUT_ROWS: usize = 256;

impl VisionTransformer {
    /// The class token's attention probabilities in one layer, `[batch, heads, tokens]`; each row
    /// sums to 1. Layers above are not run, and of the matrix only these rows are computed.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a layer that the model does not have, otherwise as
    /// [`try_forward`](Self::try_forward).
    pub fn class_attention(
        &self,
        pixel_values: Tensor<4>,
        layer: usize,
    ) -> Result<Tensor<3>, AttentionError> {
        let Some(shown) = self.layers.get(layer) else {
            return Err(AttentionError::Value {
                argument: "layer",
                given: layer.to_string(),
                accepted: format!("0 to {}", self.layers.len() - 1),
            });
        };
        let tokens = self.embed(pixel_values)?;
        let shared = self.position_table.as_ref();
        let tokens = self.layers[..layer]
            .iter()
            .fold(tokens, |tokens, layer| layer.forward(tokens, shared));
        let row = shown.attention_rows(tokens, shared).probabilities(0..1);
        Ok(row.squeeze_dim::<3>(2))
    }

    /// Attention rollout for the class token, `[batch, tokens]`, summing to 1: the class row of
    /// the product over all layers of `(A + I) / 2`, with `A` the mean over the heads (Abnar &
    /// Zuidema 2020, <https://arxiv.org/abs/2005.00928>).
    ///
    /// The row is carried from the last layer to the first, through blocks of rows of `A`; no
    /// `[tokens, tokens]` matrix is held.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn class_rollout(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, AttentionError> {
        let states = self.hidden_states(pixel_values)?;
        let [batch, length, _] = states[0].dims();
        let device = states[0].device();

        let mut row = vec![0.0f32; length];
        row[0] = 1.0;
        let row = Tensor::<3>::from_data(TensorData::new(row, [1, 1, length]), &device);
        let row = row.expand([batch, 1, length]);
        let rollout = self
            .layers
            .iter()
            .zip(&states)
            .rev()
            .fold(row, |row, (layer, tokens)| {
                let attention = layer.attention_rows(tokens.clone(), self.position_table.as_ref());
                let through = (0..length).step_by(ROLLOUT_ROWS).map(|start| {
                    let rows = start..(start + ROLLOUT_ROWS).min(length);
                    let weights = row.clone().slice_dim(2, rows.clone());
                    let heads = attention.probabilities(rows);
                    let mean = heads.cast(DType::F32).mean_dim(1);
                    weights.matmul(mean.squeeze_dim::<3>(1))
                });
                through
                    .fold(row.clone(), |sum, block| sum + block)
                    .div_scalar(2.0)
            });
        Ok(rollout.squeeze_dim::<2>(1))
    }
}
