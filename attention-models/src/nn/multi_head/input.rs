//! What a multi-head attention module attends with, and to.

use attention_core::{AttentionError, AttentionShapes};
use burn::{
    nn::Linear,
    tensor::{Bool, Tensor},
};

use crate::ops::check::{check_device, check_dtype, check_shape};
#[cfg(feature = "cube")]
use crate::ops::{BlockMap, MaskMod, ScoreMod};

/// Input of [`MultiHeadAttention::forward`](super::MultiHeadAttention::forward).
#[derive(Debug, Clone)]
pub struct MhaInput {
    /// `[batch, seq_q, d_model]`
    pub query: Tensor<3>,
    /// `[batch, seq_kv, d_key]`
    pub key: Tensor<3>,
    /// `[batch, seq_kv, d_value]`
    pub value: Tensor<3>,
    /// `[batch, seq_kv]`, `true` hides the key from every query: padding.
    pub mask_pad: Option<Tensor<2, Bool>>,
    /// `[batch, seq_q, seq_kv]`, `true` hides the key from the query.
    pub mask_attn: Option<Tensor<3, Bool>>,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, added to the scores.
    pub bias: Option<Tensor<4>>,
    /// Code that changes the scores.
    #[cfg(feature = "cube")]
    pub score_mod: Option<ScoreMod>,
    /// Code that says which keys a query sees.
    #[cfg(feature = "cube")]
    pub mask_mod: Option<MaskMod>,
    /// The blocks that a mask leaves anything of, with that mask.
    #[cfg(feature = "cube")]
    pub block_map: Option<BlockMap>,
}

impl MhaInput {
    /// Self-attention: queries, keys and values of one `[batch, seq, d_model]` tensor.
    pub fn self_attn(tensor: Tensor<3>) -> Self {
        Self::new(tensor.clone(), tensor.clone(), tensor)
    }

    /// Attention of `query` to `key` and `value`.
    pub fn new(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Self {
        Self {
            query,
            key,
            value,
            mask_pad: None,
            mask_attn: None,
            bias: None,
            #[cfg(feature = "cube")]
            score_mod: None,
            #[cfg(feature = "cube")]
            mask_mod: None,
            #[cfg(feature = "cube")]
            block_map: None,
        }
    }

    /// Hides padded keys: `[batch, seq_kv]`, `true` where the key is padding.
    pub fn mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.mask_pad = Some(mask_pad);
        self
    }

    /// Hides keys from single queries: `[batch, seq_q, seq_kv]`, `true` hides.
    pub fn mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.mask_attn = Some(mask_attn);
        self
    }

    /// Adds to the scores: `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`.
    pub fn bias(mut self, bias: Tensor<4>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Changes the scores by code.
    #[cfg(feature = "cube")]
    pub fn score_mod(mut self, score_mod: ScoreMod) -> Self {
        self.score_mod = Some(score_mod);
        self
    }

    /// Shows only keys that the code shows.
    #[cfg(feature = "cube")]
    pub fn mask_mod(mut self, mask_mod: MaskMod) -> Self {
        self.mask_mod = Some(mask_mod);
        self
    }

    /// Shows only keys that the map's mask shows, and skips the blocks that it leaves empty.
    #[cfg(feature = "cube")]
    pub fn block_map(mut self, block_map: BlockMap) -> Self {
        self.block_map = Some(block_map);
        self
    }

    /// Refuses tensors that do not fit each other or the weights of `projections`; `shapes` are those
    /// after projection.
    pub(in crate::nn) fn check(
        &self,
        projections: [&Linear; 3],
        shapes: AttentionShapes,
    ) -> Result<(), AttentionError> {
        let [batch, seq_q, _] = self.query.dims();
        let [_, seq_kv, _] = self.key.dims();
        let projected = [
            ("query", &self.query, projections[0], [batch, seq_q]),
            ("key", &self.key, projections[1], [batch, seq_kv]),
            ("value", &self.value, projections[2], [batch, seq_kv]),
        ];
        for (argument, tensor, linear, [batch, seq]) in projected {
            let weight = linear.weight.val();
            check_shape(argument, &tensor.dims(), &[batch, seq, weight.dims()[0]])?;
            check_dtype(argument, tensor.dtype(), weight.dtype())?;
            check_device(argument, &tensor.device(), &weight.device())?;
        }
        shapes.validate()?;
        if let Some(mask) = &self.mask_pad {
            check_shape("mask_pad", &mask.dims(), &[batch, seq_kv])?;
            check_device("mask_pad", &mask.device(), &self.query.device())?;
        }
        if let Some(mask) = &self.mask_attn {
            check_shape("mask_attn", &mask.dims(), &[batch, seq_q, seq_kv])?;
            check_device("mask_attn", &mask.device(), &self.query.device())?;
        }
        Ok(())
    }
}

/// A key is hidden when either mask hides it.
pub(in crate::nn) fn combined_mask(
    mask_pad: Option<Tensor<2, Bool>>,
    mask_attn: Option<Tensor<3, Bool>>,
) -> Option<Tensor<4, Bool>> {
    let pad = mask_pad.map(|mask| {
        let [batch, seq_kv] = mask.dims();
        mask.reshape([batch, 1, 1, seq_kv])
    });
    let attn = mask_attn.map(|mask| {
        let [batch, seq_q, seq_kv] = mask.dims();
        mask.reshape([batch, 1, seq_q, seq_kv])
    });
    match (pad, attn) {
        (Some(pad), Some(attn)) => Some(pad.expand(attn.dims()).bool_or(attn)),
        (pad, attn) => pad.or(attn),
    }
}
