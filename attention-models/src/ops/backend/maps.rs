//! Attention maps of Burn's backends that have kernels of ours. They have no backward pass.

use attention_core::{AttentionError, AttentionSpec};
use attention_kernels::{TensorRef, modification::Modification, softmax::maps};
use burn::backend::{
    Backend, Dispatch, ExtensionType, backend_extension, fusion::custom::TensorSpec,
    tensor::FloatTensor,
};
use burn::tensor::{DType, Shape, Tensor};
use cubecl::{client::Client, server::Handle};

use super::values::{Inputs, InputsMetadata, MaybeBool, MaybeFloat, MaybeInt, MaybeIntMetadata};
use crate::ops::{
    maps::{
        Map,
        call::{Call, Shown},
    },
    modification::Flat,
};

/// The tensors of a map: those of the forward pass, the value of which only a gradient needs, and
/// its log-sum-exp.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct MapInputs<B: Backend> {
    #[extension_type]
    pub forward: Inputs<B>,
    pub lse: FloatTensor<B>,
    #[extension_type]
    pub grad_out: MaybeFloat<B>,
}

/// A map in `f32`, and keys in `i32` where it lists some.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct MapOutput<B: Backend> {
    pub values: FloatTensor<B>,
    #[extension_type]
    pub keys: MaybeInt<B>,
}

/// What a backend offers to show attention. The arguments have been checked.
#[backend_extension(Cube, Flex: cfg(feature = "cpu"), Fusion)]
pub trait MapOps: Backend {
    /// The map.
    #[fusion(meta = describe)]
    fn attention_map(
        #[extension_type] inputs: MapInputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
        map: Map,
    ) -> MapOutput<Self>;
}

/// A map of checked arguments without autodiff through [`MapOps`].
pub(in crate::ops) fn attention_map(call: Call, map: Map) -> Shown {
    let options = call.options;
    let mask = options.block_map.map(|map| map.mask);
    // Factors of probabilities come after what is shown.
    let flat = Flat::new(options.score_mod, mask.or(options.mask_mod), None);
    let tables = flat.tables.map(Tensor::without_autodiff);
    let floats = flat.floats.map(Tensor::without_autodiff);
    let integers = flat.integers.map(Tensor::without_autodiff);
    // Only a gradient reads the value.
    let (value, grad_out) = match call.gradient {
        Some((value, grad_out)) => (value, Some(grad_out)),
        None => (call.key.clone(), None),
    };
    let inputs = MapInputs {
        forward: Inputs {
            query: call.query.into_dispatch(),
            key: call.key.into_dispatch(),
            value: value.into_dispatch(),
            mask: MaybeBool::from(options.mask.map(Tensor::into_dispatch)),
            bias: MaybeFloat::from(options.bias.map(Tensor::into_dispatch)),
            floats: MaybeFloat::from(floats.map(Tensor::into_dispatch)),
            integers: MaybeInt::from(integers.map(Tensor::into_dispatch)),
            tables: MaybeFloat::from(tables.map(Tensor::into_dispatch)),
            block_rows: MaybeInt::Absent,
            block_columns: MaybeInt::Absent,
        },
        lse: call.lse.into_dispatch(),
        grad_out: MaybeFloat::from(grad_out.map(Tensor::into_dispatch)),
    };
    let output = <Dispatch as MapOps>::attention_map(inputs, options.spec, flat.modification, map);
    let keys = output.keys.into_option().map(Tensor::from_dispatch);
    (Tensor::from_dispatch(output.values), keys)
}

/// Launches the kernels; the second buffer are keys.
pub(super) fn launch(
    map: &Map,
    client: &Client,
    inputs: &maps::MapInputs,
    grad_out: Option<&TensorRef>,
    spec: &AttentionSpec,
) -> Result<(Handle, Option<Handle>), AttentionError> {
    let values = match map {
        Map::Rows(rows) => maps::rows(client, inputs, spec, rows)?,
        Map::GradientTimes(rows) => {
            let grad_out = grad_out.expect("invariant: this map comes with a gradient");
            maps::gradient_times_attention(client, inputs, spec, grad_out, rows)?
        }
        Map::Received => maps::received(client, inputs, spec)?,
        Map::Pooled(grid) => maps::pooled(client, inputs, spec, *grid)?,
        Map::Entropy => maps::entropy(client, inputs, spec)?,
        Map::TopKeys(k) => {
            let top = maps::top_keys(client, inputs, spec, *k)?;
            return Ok((top.probabilities, Some(top.keys)));
        }
    };
    Ok((values, None))
}

fn describe(
    inputs: &MapInputsMetadata,
    _spec: &AttentionSpec,
    _code: &Modification,
    map: &Map,
) -> MapOutputMetadata {
    let InputsMetadata { query, key, .. } = &inputs.forward;
    let shape = Shape::from(map.shape(query.shape.dims(), key.shape.dims()));
    MapOutputMetadata {
        values: TensorSpec::new(shape.clone(), DType::F32),
        keys: match map {
            Map::TopKeys(_) => MaybeIntMetadata::Given(TensorSpec::new(shape, DType::I32)),
            _ => MaybeIntMetadata::Absent,
        },
    }
}
