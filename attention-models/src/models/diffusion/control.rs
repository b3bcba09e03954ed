//! What the attentions of a diffusion model do: attend, show their maps, or take over maps of
//! another image.

use burn::tensor::Tensor;

use super::blocks::attend_wide;
use crate::ops::{AttentionOptions, attention};

/// One attention of a model, as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// How many attentions ran before it in this pass through the model.
    pub index: usize,
    /// Whether the keys are tokens of a text, not of the image.
    pub cross: bool,
    /// `[height, width]` of the image at this depth; the queries are its pixels, row by row.
    pub grid: [usize; 2],
}

/// The interface to the attention maps of a diffusion model: every attention of a pass asks it for
/// its output.
///
/// A map `softmax(q k^T)` is never stored for it. What it shows is computed from the queries and
/// keys by the [maps of `ops`](crate::ops#attention-maps), and a map that is put in place of
/// another is applied by attending with the queries and keys that it comes from: see
/// [`PromptToPrompt`](super::pipeline::PromptToPrompt).
pub trait AttentionControl {
    /// The output `[batch, heads, pixels, head_dim]` of the attention at `site` with these queries
    /// `[batch, heads, pixels, head_dim]`, keys and values `[batch, heads, tokens, head_dim]`.
    fn attend(
        &mut self,
        site: Site,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> Tensor<4>;

    /// Hears that step `step` of `steps` begins.
    fn begin_step(&mut self, _step: usize, _steps: usize) {}

    /// The number of pictures that it was made for, if that matters.
    fn images(&self) -> Option<usize> {
        None
    }
}

/// Attends, and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl AttentionControl for Plain {
    fn attend(&mut self, _: Site, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
        plain(query, key, value)
    }
}

/// Attention without mask, heads of any width.
pub(super) fn plain(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    if query.dims()[3] > attention_core::MAX_HEAD_DIM {
        return attend_wide(query, key, value);
    }
    attention(query, key, value, AttentionOptions::default())
}

/// What the blocks of one pass share beside the image.
pub struct Context<'a> {
    /// What cross-attention reads, `[batch, tokens, width]`.
    pub text: Option<Tensor<3>>,
    control: &'a mut dyn AttentionControl,
    sites: usize,
}

impl<'a> Context<'a> {
    /// Of one pass.
    pub fn new(text: Option<Tensor<3>>, control: &'a mut dyn AttentionControl) -> Self {
        Self {
            text,
            control,
            sites: 0,
        }
    }

    /// The attention that runs next.
    pub(super) fn attend(
        &mut self,
        cross: bool,
        grid: [usize; 2],
        [query, key, value]: [Tensor<4>; 3],
    ) -> Tensor<4> {
        let site = Site {
            index: self.sites,
            cross,
            grid,
        };
        self.sites += 1;
        self.control.attend(site, query, key, value)
    }
}
