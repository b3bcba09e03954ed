//! Score modifications and masks as code, on Burn tensors.

use attention_core::AttentionError;
use attention_kernels::modification::{self, CapturedValues, Modification};
use burn::tensor::{DType, Device, Int, Tensor};

use super::{AttentionOptions, check::check_device};

/// A [score modification](attention_kernels::modification::ScoreMod) that captures Burn tensors. They
/// receive no gradient, and one that expects it is refused: a learned bias goes to `options.bias`.
///
/// ```
/// use attention_models::ops::{AttentionOptions, Captured, Lanes, Place, ScoreMod, attention};
/// use burn::tensor::{Device, Tensor};
/// use cubecl::prelude::*;
///
/// /// A weight for each head and distance up to 7.
/// #[cube]
/// fn weight(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
///     let distance = max(at.query, at.key) - min(at.query, at.key);
///     let distance = min(distance, Vector::new(7u32));
///     captured.floats(0usize, distance + Vector::new(at.head * 8u32))
/// }
///
/// # fn main() {
/// let device = Device::flex();
/// let x = Tensor::<4>::ones([1, 2, 5, 16], &device);
/// let table = Tensor::<1>::zeros([16], &device);
/// let options = AttentionOptions::default()
///     .with_score_mod(ScoreMod::additive(weight::expand).with_floats(table));
/// assert_eq!(attention(x.clone(), x.clone(), x, options).dims(), [1, 2, 5, 16]);
/// # }
/// ```
pub type ScoreMod = modification::ScoreMod<Tensor<1>, Tensor<1, Int>>;

/// A [mask](attention_kernels::modification::Mask) that captures Burn tensors.
///
/// ```
/// use attention_models::ops::{AttentionOptions, Captured, Lanes, MaskMod, Place, attention};
/// use burn::tensor::{Device, Int, Tensor};
/// use cubecl::prelude::*;
///
/// /// Tokens see those of their own document.
/// #[cube]
/// fn same_document(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
///     captured.integers(0usize, at.query).equal(&captured.integers(0usize, at.key))
/// }
///
/// # fn main() {
/// let device = Device::flex();
/// let x = Tensor::<4>::ones([1, 2, 5, 16], &device);
/// let documents = Tensor::<1, Int>::from_data([0, 0, 1, 1, 1], &device);
/// let options = AttentionOptions::default()
///     .with_mask_mod(MaskMod::new(same_document::expand).with_integers(documents));
/// assert_eq!(attention(x.clone(), x.clone(), x, options).dims(), [1, 2, 5, 16]);
/// # }
/// ```
pub type MaskMod = modification::Mask<Tensor<1>, Tensor<1, Int>>;

/// Captured tensors receive no gradient: one that expects it is refused, not forgotten.
pub(super) fn captured_gradient() -> AttentionError {
    AttentionError::Value {
        argument: "score_mod or mask_mod",
        given: "a captured tensor that expects a gradient".into(),
        accepted: "a detached tensor; a learned bias goes to `options.bias`".into(),
    }
}

/// Refuses captured tensors that do not lie on `device`, hold nothing, or expect a gradient.
pub(super) fn check(options: &AttentionOptions, device: &Device) -> Result<(), AttentionError> {
    let captured = [
        (
            "score_mod",
            options.score_mod.as_ref().map(ScoreMod::captured),
        ),
        ("mask_mod", options.mask_mod.as_ref().map(MaskMod::captured)),
    ];
    for (argument, values) in captured {
        if let Some(values) = values {
            check_captured(argument, values, device)?;
        }
    }
    Ok(())
}

/// [`check`] of what the function of one `argument` captured.
pub(super) fn check_captured(
    argument: &'static str,
    values: &CapturedValues<Tensor<1>, Tensor<1, Int>>,
    device: &Device,
) -> Result<(), AttentionError> {
    let floats = values.floats.iter().map(|t| (t.dims(), t.device()));
    let integers = values.integers.iter().map(|t| (t.dims(), t.device()));
    if values.floats.iter().any(Tensor::is_require_grad) {
        return Err(captured_gradient());
    }
    for (dims, given) in floats.chain(integers) {
        check_device(argument, &given, device)?;
        if dims == [0] {
            return Err(AttentionError::Shape {
                argument,
                given: dims.to_vec(),
                accepted: "a captured tensor of at least one element".into(),
            });
        }
    }
    Ok(())
}

/// The code, and what it captured in a buffer for each kind.
pub(super) struct Flat {
    pub modification: Modification,
    pub floats: Option<Tensor<1>>,
    pub integers: Option<Tensor<1, Int>>,
}

impl Flat {
    pub fn new(score: Option<ScoreMod>, mask: Option<MaskMod>) -> Self {
        let (modification, floats, integers) = Modification::new(
            score,
            mask,
            (
                |tensor: &Tensor<1>| tensor.dims()[0] as u32,
                |tensor: &Tensor<1, Int>| tensor.dims()[0] as u32,
            ),
        );
        let floats = floats.into_iter().map(|tensor| tensor.cast(DType::F32));
        let integers = integers.into_iter().map(|tensor| tensor.cast(DType::I32));
        Self {
            modification,
            floats: joined(floats.collect(), |tensors| Tensor::cat(tensors, 0)),
            integers: joined(integers.collect(), |tensors| Tensor::cat(tensors, 0)),
        }
    }
}

fn joined<T>(mut tensors: Vec<T>, cat: impl Fn(Vec<T>) -> T) -> Option<T> {
    match tensors.len() {
        0 | 1 => tensors.pop(),
        _ => Some(cat(tensors)),
    }
}
