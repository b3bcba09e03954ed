//! Refuses what cannot run before anything is launched.

use attention_core::{AttentionError, AttentionProblem, AttentionShapes};
use burn::tensor::{DType, Device, Tensor};

use super::AttentionOptions;

/// The problem that the arguments spell, or which of them does not fit and why.
pub(super) fn check(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    options: &AttentionOptions,
) -> Result<AttentionProblem, AttentionError> {
    options.spec.validate()?;
    let problem = AttentionShapes {
        query: query.dims(),
        key: key.dims(),
        value: value.dims(),
        mask: options.mask.as_ref().map(|mask| mask.dims()),
        bias: options.bias.as_ref().map(|bias| bias.dims()),
    }
    .validate()?;

    let (device, dtype) = (query.device(), query.dtype());
    check_device_offers(&device, dtype)?;
    let floats = [
        ("key", Some(key)),
        ("value", Some(value)),
        ("bias", options.bias.as_ref()),
    ];
    for (argument, tensor) in floats {
        let Some(tensor) = tensor else { continue };
        check_dtype(argument, tensor.dtype(), dtype)?;
        check_device(argument, &tensor.device(), &device)?;
    }
    if let Some(mask) = &options.mask {
        check_device("mask", &mask.device(), &device)?;
    }
    #[cfg(feature = "cube")]
    super::modification::check(options, problem.heads, &device)?;
    #[cfg(feature = "cube")]
    super::modification::check_buffers(options, &device)?;
    #[cfg(feature = "cube")]
    super::backend::check_engine(options, &problem, dtype, &device)?;
    #[cfg(feature = "cube")]
    if let Some(map) = &options.block_map {
        map.check(&problem, &device)?;
        if options.mask_mod.is_some() {
            return Err(AttentionError::Value {
                argument: "mask_mod",
                given: "a mask beside a block map".into(),
                accepted: "a block map made from both, `BlockMap::new(mask.and(other), ..)`".into(),
            });
        }
    }
    Ok(problem)
}

/// Refuses an `argument` whose shape is not `accepted`.
pub(crate) fn check_shape(
    argument: &'static str,
    given: &[usize],
    accepted: &[usize],
) -> Result<(), AttentionError> {
    if given == accepted {
        return Ok(());
    }
    Err(AttentionError::Shape {
        argument,
        given: given.to_vec(),
        accepted: format!("{accepted:?}"),
    })
}

/// Refuses an `argument` whose dtype is not `expected`.
pub(crate) fn check_dtype(
    argument: &'static str,
    given: DType,
    expected: DType,
) -> Result<(), AttentionError> {
    if given == expected {
        return Ok(());
    }
    Err(AttentionError::DType {
        argument,
        given: given.name().into(),
        accepted: expected.name().into(),
    })
}

/// Refuses an `argument` that does not lie on `expected`; autodiff makes no difference.
pub(crate) fn check_device(
    argument: &'static str,
    given: &Device,
    expected: &Device,
) -> Result<(), AttentionError> {
    if given == expected {
        return Ok(());
    }
    Err(AttentionError::Device {
        argument,
        given: format!("{given:?}"),
        accepted: format!("{expected:?}"),
    })
}

fn check_device_offers(device: &Device, dtype: DType) -> Result<(), AttentionError> {
    let accepted: Vec<_> = [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .filter(|&dtype| device.supports_dtype(dtype))
        .collect();
    if accepted.contains(&dtype) {
        return Ok(());
    }
    let names: Vec<_> = accepted.iter().map(|dtype| dtype.name()).collect();
    Err(AttentionError::DType {
        argument: "query",
        given: dtype.name().into(),
        accepted: format!("{} on {device:?}", names.join(", ")),
    })
}
