//! What every map starts from, checked.

use attention_core::{AttentionError, AttentionSpec};
use cubecl::client::Client;

use super::super::{
    bind,
    checks::wrong_dtype,
    setup::{Setup, address_type},
    tensors::Inputs,
};
use crate::TensorRef;

/// What a map starts from.
#[derive(Debug, Clone)]
pub struct MapInputs {
    /// The inputs of the forward. Only
    /// [`gradient_times_attention`](super::gradient_times_attention) reads the value: for the other
    /// maps, the key may stand in for it.
    pub forward: Inputs,
    /// `[batch, heads, seq_q, 1]` of f32, contiguous: the forward's log-sum-exp.
    pub lse: TensorRef,
}

impl MapInputs {
    /// The checked problem.
    pub(super) fn setup<'a>(
        &self,
        client: &'a Client,
        spec: &'a AttentionSpec,
    ) -> Result<Setup<'a>, AttentionError> {
        let setup = Setup::new(client, &self.forward, spec)?;
        let [batch, heads, rows] = setup.problem.lse_shape();
        check_shape("lse", &self.lse, [batch, heads, rows, 1])?;
        if self.lse.elem != bind::F32 {
            return Err(wrong_dtype("lse", self.lse.elem, bind::F32.to_string()));
        }
        Ok(setup)
    }
}

impl Setup<'_> {
    /// Makes room for a buffer of this many elements.
    pub(super) fn address(&mut self, elements: usize) -> Result<(), AttentionError> {
        if u32::try_from(elements).is_err() {
            self.address = address_type(self.client, elements)?;
        }
        Ok(())
    }
}

pub(super) fn check_shape(
    argument: &'static str,
    tensor: &TensorRef,
    shape: [usize; 4],
) -> Result<(), AttentionError> {
    if tensor.shape == shape {
        return Ok(());
    }
    Err(AttentionError::Shape {
        argument,
        given: tensor.shape.to_vec(),
        accepted: format!("{shape:?}"),
    })
}
