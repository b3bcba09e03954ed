//! Burn's own attention behind our interface: what ours is compared with, in whole models too.

use std::cell::Cell;

use attention_core::{AttentionError, AttentionProblem, CausalAlignment};
use burn::tensor::{Tensor, module::attention, ops::AttentionModuleOptions};

use super::{AttentionOptions, check::check, composition::refuse_code};

thread_local! {
    static INSTEAD: Cell<bool> = const { Cell::new(false) };
}

/// Runs `model` with Burn's own attention in the place of ours, on this thread: wherever it calls
/// [`attention`](super::attention) or [`try_attention`](super::try_attention), [`burn_attention`]
/// runs, forward and, under autodiff, backward. Operations that Burn does not have stay ours.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention, comparison::with_burn_attention};
/// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
///
/// let tokens = Tensor::<4>::random([1, 2, 7, 16], Distribution::Default, &Device::flex());
/// let model = || {
///     let tokens = tokens.clone();
///     attention(tokens.clone(), tokens.clone(), tokens, AttentionOptions::default())
/// };
/// let (ours, burns) = (model(), with_burn_attention(model));
/// ours.into_data()
///     .assert_approx_eq::<f32>(&burns.into_data(), Tolerance::absolute(1e-5));
/// ```
pub fn with_burn_attention<T>(model: impl FnOnce() -> T) -> T {
    /// Puts back what was, if `model` panics too.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSTEAD.set(self.0);
        }
    }
    let _restore = Restore(INSTEAD.replace(true));
    model()
}

/// Whether [`with_burn_attention`] is running on this thread.
pub(super) fn is_asked_for() -> bool {
    INSTEAD.get()
}

/// [`burn::tensor::module::attention`] with the shapes and options of
/// [`try_attention`](super::try_attention). Keys and values are repeated for grouped heads, as Burn's
/// modules do it.
///
/// # Errors
/// Those of [`try_attention`](super::try_attention), and what Burn's operation does not have: code,
/// engines, and causality aligned at the top left of a score matrix that is not square.
pub fn burn_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> Result<Tensor<4>, AttentionError> {
    let problem = check(&query, &key, &value, &options)?;
    refuse_code(&options)?;
    let is_causal = match options.spec.causal {
        None => false,
        Some(CausalAlignment::TopLeft) if problem.seq_q != problem.seq_kv => {
            return Err(AttentionError::Value {
                argument: "causal",
                given: "the alignment at the top left, for sequences of two lengths".into(),
                accepted: "the alignment at the bottom right where Burn's own attention runs"
                    .into(),
            });
        }
        Some(_) => true,
    };
    let (batch, heads) = (problem.batch, problem.heads);
    let scores = [batch, heads, problem.seq_q, problem.seq_kv];
    let AttentionProblem { seq_kv, .. } = problem;
    Ok(attention(
        query,
        repeated(key, [batch, heads, seq_kv, problem.head_dim]),
        repeated(value, [batch, heads, seq_kv, problem.value_dim]),
        options.mask.map(|mask| mask.expand(scores)),
        options.bias.map(|bias| bias.expand(scores)),
        AttentionModuleOptions {
            scale: options.spec.scale,
            softcap: options.spec.softcap,
            is_causal,
        },
    ))
}

/// Each head as often as query heads share it.
fn repeated(tensor: Tensor<4>, [batch, heads, seq, width]: [usize; 4]) -> Tensor<4> {
    let shared = tensor.dims()[1];
    if shared == heads {
        return tensor;
    }
    let groups = heads / shared;
    tensor
        .reshape([batch, shared, 1, seq, width])
        .expand([batch, shared, groups, seq, width])
        .reshape([batch, heads, seq, width])
}
