//! What a call takes and gives.

use attention_core::AttentionShapes;
use cubecl::server::Handle;

use super::Engine;
use crate::{
    TensorRef,
    block_map::BlockMap,
    modification::{CapturedRefs, Modification},
};

/// The tensors of one call. Query, key, value and bias have the same element type.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: TensorRef,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: TensorRef,
    /// `[batch, value_heads, seq_kv, value_dim]`
    pub value: TensorRef,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]` of `u8` or `u32`: not 0 means hidden.
    pub mask: Option<TensorRef>,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, added to the scores.
    pub bias: Option<TensorRef>,
    /// Score modification and mask as code.
    pub modification: Modification,
    /// `[1, 1, 1, elements]` of f32: the modification's float tensors, one after the other.
    pub floats: Option<TensorRef>,
    /// `[1, 1, 1, elements]` of 32-bit integers: the modification's integer tensors, likewise.
    pub integers: Option<TensorRef>,
    /// `[1, 1, 1, elements]` of f32: the modification's learned tables, likewise.
    pub tables: Option<TensorRef>,
    /// The tiles that the modification's mask leaves anything of: the others are skipped.
    pub block_map: Option<BlockMap>,
    /// How rows and tokens are multiplied.
    pub engine: Engine,
}

/// What the forward leaves on the device.
#[derive(Debug, Clone)]
pub struct Output {
    /// `[batch, heads, seq_q, value_dim]`, contiguous, of the query's element type.
    pub out: Handle,
    /// `[batch, heads, seq_q]` of f32: the natural logarithm of the sum of the exponentials of a
    /// row's scores, `-inf` for a row that sees no key.
    pub lse: Handle,
}

/// What the backward starts from.
#[derive(Debug, Clone)]
pub struct BackwardInputs {
    /// The inputs of the forward.
    pub forward: Inputs,
    /// `[batch, heads, seq_q, value_dim]`
    pub out: TensorRef,
    /// `[batch, heads, seq_q, 1]` of f32, contiguous.
    pub lse: TensorRef,
    /// `[batch, heads, seq_q, value_dim]`
    pub grad_out: TensorRef,
    /// `[batch, heads, seq_q, 1]` of f32, contiguous: the gradient of the LSE, where it is used.
    pub grad_lse: Option<TensorRef>,
}

impl BackwardInputs {
    /// The tensors that are multiplied.
    pub(crate) fn multiplied(&self) -> [&TensorRef; 4] {
        let [query, key, value] = self.forward.multiplied();
        [query, key, value, &self.grad_out]
    }
}

/// Gradients, contiguous, in the shape and element type of their inputs.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: Handle,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: Handle,
    /// `[batch, value_heads, seq_kv, value_dim]`
    pub value: Handle,
    /// In the bias' own shape, where it was asked for.
    pub bias: Option<Handle>,
    /// Of f32, as [`Inputs::tables`] lie, where it was asked for.
    pub tables: Option<Handle>,
}

/// Which gradients [`backward`](super::backward) computes besides those of query, key and value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// That of the bias, if there is one.
    pub bias: bool,
    /// Those of the learned tables, if there are any.
    pub tables: bool,
}

impl Inputs {
    /// Without mask, bias and modification.
    pub fn new(query: TensorRef, key: TensorRef, value: TensorRef) -> Self {
        Self {
            query,
            key,
            value,
            mask: None,
            bias: None,
            modification: Modification::default(),
            floats: None,
            integers: None,
            tables: None,
            block_map: None,
            engine: Engine::Auto,
        }
    }

    /// What the modification captured.
    pub(crate) fn captured(&self) -> CapturedRefs<'_> {
        CapturedRefs {
            floats: self.floats.as_ref(),
            integers: self.integers.as_ref(),
            tables: self.tables.as_ref(),
        }
    }

    /// The tensors that are multiplied.
    pub(crate) fn multiplied(&self) -> [&TensorRef; 3] {
        [&self.query, &self.key, &self.value]
    }

    /// The shapes as given.
    pub fn shapes(&self) -> AttentionShapes {
        AttentionShapes {
            query: self.query.shape,
            key: self.key.shape,
            value: self.value.shape,
            mask: self.mask.as_ref().map(|mask| mask.shape),
            bias: self.bias.as_ref().map(|bias| bias.shape),
        }
    }
}
