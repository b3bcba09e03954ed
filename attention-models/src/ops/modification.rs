//! Score modifications and masks as code, on Burn tensors.

use attention_core::AttentionError;
use attention_kernels::{
    modification::{self, CapturedValues, Modification, Table},
    softmax::Buffers,
};
use burn::tensor::{DType, Device, Int, Tensor};

use cubecl::ir::DeviceProperties;

use super::{AttentionOptions, backend::of_properties, check::check_device};

/// A [score modification](attention_kernels::modification::ScoreMod) that captures Burn tensors. Tables
/// that [`lookup`](attention_kernels::modification::ScoreMod::lookup) adds entries of are learned: they
/// receive a gradient. Other captured tensors do not, and one that expects it is refused.
///
/// ```
/// use attention_models::ops::{AttentionOptions, Captured, Lanes, Place, ScoreMod, attention};
/// use burn::tensor::{Device, Tensor};
/// use cubecl::prelude::*;
///
/// #[cube]
/// fn distance(at: &Place, _captured: &Captured) -> Vector<u32, Lanes> {
///     max(at.query, at.key) - min(at.query, at.key)
/// }
///
/// # fn main() {
/// let device = Device::flex().autodiff();
/// let x = Tensor::<4>::ones([1, 2, 5, 16], &device);
/// // A learned term for each of 2 heads and each distance; from 7 on, they share one.
/// let terms = Tensor::<1>::zeros([2 * 8], &device).require_grad();
/// let options = AttentionOptions::default()
///     .with_score_mod(ScoreMod::lookup(terms.clone(), 8, distance::expand));
///
/// let gradients = attention(x.clone(), x.clone(), x, options).sum().backward();
/// assert_eq!(terms.grad(&gradients).unwrap().dims(), [16]);
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

/// [Factors of probabilities](attention_kernels::modification::WeightMod) that capture Burn tensors,
/// which receive no gradient. Dropout is one: [`AttentionOptions::with_dropout`].
///
/// ```
/// use attention_models::ops::{AttentionOptions, Captured, Lanes, Place, WeightMod, attention};
/// use burn::tensor::{Device, Tensor};
/// use cubecl::prelude::*;
///
/// /// Luong's local attention: probabilities fall off like a Gaussian around the query.
/// #[cube]
/// fn gaussian(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
///     let distance = Vector::<f32, Lanes>::cast_from(at.query) - Vector::cast_from(at.key);
///     Vector::exp(distance * distance * Vector::new(captured.number(0usize)))
/// }
///
/// # fn main() {
/// let x = Tensor::<4>::ones([1, 2, 5, 16], &Device::flex());
/// let gaussian = WeightMod::new(gaussian::expand).with_number(-0.5);
/// let options = AttentionOptions::default().with_weight_mod(gaussian);
/// assert_eq!(attention(x.clone(), x.clone(), x, options).dims(), [1, 2, 5, 16]);
/// # }
/// ```
pub type WeightMod = modification::WeightMod<Tensor<1>, Tensor<1, Int>>;

/// Captured tensors that are no table receive no gradient: one that expects it is refused, not forgotten.
pub(super) fn captured_gradient() -> AttentionError {
    AttentionError::Value {
        argument: "score_mod or mask_mod",
        given: "a captured tensor that expects a gradient".into(),
        accepted: "a detached tensor; a learned table goes to `ScoreMod::lookup`".into(),
    }
}

/// Refuses captured tensors that do not lie on `device`, hold nothing, or expect a gradient, and
/// functions that read values which they did not capture.
pub(super) fn check(
    options: &AttentionOptions,
    heads: usize,
    device: &Device,
) -> Result<(), AttentionError> {
    if let Some(score) = &options.score_mod {
        check_captured("score_mod", score.captured(), device)?;
        check_functions(device, |on| score.validate("score_mod", on))?;
        for table in &score.captured().tables {
            let entries = table.entries.dims()[0] as u32;
            let slots = table.slots;
            Table { entries, slots }.validate(heads)?;
        }
    }
    if let Some(mask) = &options.mask_mod {
        check_mask("mask_mod", mask, device)?;
    }
    if let Some(weight) = &options.weight_mod {
        check_captured("weight_mod", weight.captured(), device)?;
        check_functions(device, |on| weight.validate("weight_mod", on))?;
    }
    Ok(())
}

/// [`check`] of a mask, which is the `argument`.
pub(super) fn check_mask(
    argument: &'static str,
    mask: &MaskMod,
    device: &Device,
) -> Result<(), AttentionError> {
    check_captured(argument, mask.captured(), device)?;
    check_functions(device, |on| mask.validate(argument, on))
}

/// Only devices with kernels run functions; the others refuse them later.
fn check_functions(
    device: &Device,
    validate: impl FnOnce(&DeviceProperties) -> Result<(), AttentionError>,
) -> Result<(), AttentionError> {
    of_properties(device, validate).unwrap_or(Ok(()))
}

fn check_captured(
    argument: &'static str,
    values: &CapturedValues<Tensor<1>, Tensor<1, Int>>,
    device: &Device,
) -> Result<(), AttentionError> {
    let tables = values.tables.iter().map(|table| &table.entries);
    let floats = values.floats.iter().chain(tables);
    let floats = floats.map(|t| (t.dims(), t.device()));
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

/// Refuses more buffers than a kernel may bind on `device`.
pub(super) fn check_buffers(
    options: &AttentionOptions,
    device: &Device,
) -> Result<(), AttentionError> {
    let available = of_properties(device, |on| on.hardware.max_bindings);
    available.map_or(Ok(()), |available| {
        buffers(options).check(available, device.is_autodiff())
    })
}

/// What the options bind.
fn buffers(options: &AttentionOptions) -> Buffers {
    let mapped = options.block_map.as_ref().map(|map| map.mask.captured());
    let captured: Vec<_> = [
        options.score_mod.as_ref().map(ScoreMod::captured),
        options.mask_mod.as_ref().map(MaskMod::captured).or(mapped),
        options.weight_mod.as_ref().map(WeightMod::captured),
    ]
    .into_iter()
    .flatten()
    .collect();
    Buffers {
        mask: options.mask.is_some(),
        bias: options.bias.is_some(),
        floats: captured.iter().any(|values| !values.floats.is_empty()),
        integers: captured.iter().any(|values| !values.integers.is_empty()),
        tables: captured.iter().any(|values| !values.tables.is_empty()),
        block_map: options.block_map.is_some(),
    }
}

/// The code, and what it captured in a buffer for each kind.
pub(super) struct Flat {
    pub modification: Modification,
    pub floats: Option<Tensor<1>>,
    pub integers: Option<Tensor<1, Int>>,
    pub tables: Option<Tensor<1>>,
}

impl Flat {
    pub fn new(score: Option<ScoreMod>, mask: Option<MaskMod>, weight: Option<WeightMod>) -> Self {
        let (modification, tensors) = Modification::new(
            score,
            mask,
            weight,
            (
                |tensor: &Tensor<1>| tensor.dims()[0] as u32,
                |tensor: &Tensor<1, Int>| tensor.dims()[0] as u32,
            ),
        );
        let floats = |tensors: Vec<Tensor<1>>| {
            let tensors = tensors.into_iter().map(|tensor| tensor.cast(DType::F32));
            joined(tensors.collect(), |tensors| Tensor::cat(tensors, 0))
        };
        let integers = tensors.integers.into_iter();
        let integers = integers.map(|tensor| tensor.cast(DType::I32));
        Self {
            modification,
            floats: floats(tensors.floats),
            tables: floats(tensors.tables),
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
