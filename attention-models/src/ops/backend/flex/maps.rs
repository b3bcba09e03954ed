//! Maps by the CubeCL CPU runtime on copies of what lies in flex's memory.

use attention_core::{AttentionError, AttentionSpec};
use attention_kernels::{
    modification::Modification,
    softmax::{Engine, maps},
};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;

use crate::ops::maps::Map;

use super::super::{
    launched,
    maps::{MapInputs, MapOps, MapOutput, launch},
    values::{Call, MaybeFloat, MaybeInt},
};
use super::{
    input_tensors, kernel_inputs,
    memory::{Uploads, client, contiguous, download, plain},
    plain_inputs,
};

impl MapOps for Flex {
    fn attention_map(
        inputs: MapInputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
        map: Map,
    ) -> MapOutput<Self> {
        let inputs = MapInputs {
            forward: plain_inputs(inputs.forward),
            lse: contiguous(inputs.lse),
            grad_out: MaybeFloat::from(inputs.grad_out.into_option().map(plain)),
        };
        launched(compute(&inputs, &spec, modification, &map))
    }
}

fn compute(
    inputs: &MapInputs<Flex>,
    spec: &AttentionSpec,
    modification: Modification,
    map: &Map,
) -> Result<MapOutput<Flex>, AttentionError> {
    let forward = &inputs.forward;
    let mut tensors = input_tensors(forward);
    tensors.push(&inputs.lse);
    tensors.extend(inputs.grad_out.as_option());
    let uploads = Uploads::new(&tensors)?;
    let grad_out = inputs.grad_out.as_option().map(|grad| uploads.view(grad));

    let call = Call {
        spec: *spec,
        modification,
        engine: Engine::Auto,
        blocks: None,
        recorded: false,
    };
    let kernel_inputs = maps::MapInputs {
        forward: kernel_inputs(&uploads, forward, call),
        lse: uploads.view(&inputs.lse),
    };
    let (values, keys) = launch(map, client(), &kernel_inputs, grad_out.as_ref(), spec)?;
    let shape = map.shape(forward.query.shape().dims(), forward.key.shape().dims());
    let keys = keys.map(|keys| download(keys, shape.into(), DType::I32));
    Ok(MapOutput {
        values: download(values, shape.into(), DType::F32)?,
        keys: MaybeInt::from(keys.transpose()?),
    })
}
