//! The tensors that go in, and their checks.

use super::{Mask4, Tensor4};
use crate::{AttentionError, AttentionProblem, AttentionShapes, AttentionSpec};

/// The tensors of one attention call.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: Tensor4,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: Tensor4,
    /// `[batch, value_heads, seq_kv, value_dim]`
    pub value: Tensor4,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`; `true` hides the key from the query.
    pub mask: Option<Mask4>,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, added to the scores after softcap; `-inf`
    /// hides the key from the query.
    pub bias: Option<Tensor4>,
}

impl Inputs {
    /// The shapes of these tensors, not checked against each other.
    pub fn shapes(&self) -> AttentionShapes {
        AttentionShapes {
            query: self.query.shape,
            key: self.key.shape,
            value: self.value.shape,
            mask: self.mask.as_ref().map(|mask| mask.shape),
            bias: self.bias.as_ref().map(|bias| bias.shape),
        }
    }

    /// The problem that these tensors and options spell, or which of them does not fit.
    pub(super) fn validate(
        &self,
        spec: &AttentionSpec,
    ) -> Result<AttentionProblem, AttentionError> {
        spec.validate()?;
        let problem = self.shapes().validate()?;
        self.query.check_len("query")?;
        self.key.check_len("key")?;
        self.value.check_len("value")?;
        self.mask.as_ref().map_or(Ok(()), |m| m.check_len("mask"))?;
        self.bias.as_ref().map_or(Ok(()), |b| b.check_len("bias"))?;
        Ok(problem)
    }
}
