//! Maps on Burn's buffers.

use attention_core::AttentionSpec;
use attention_kernels::{
    modification::Modification,
    softmax::{Engine, maps},
};
use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;

use crate::ops::maps::Map;

use super::super::{
    launched,
    maps::{MapInputs, MapOps, MapOutput, launch},
    values::{Call, MaybeInt},
};
use super::{kernel_inputs, row_ref, tensor_ref, wrap};

impl MapOps for CubeBackend {
    fn attention_map(
        inputs: MapInputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
        map: Map,
    ) -> MapOutput<Self> {
        let query = inputs.forward.query.clone();
        let shape = map.shape(query.shape().dims(), inputs.forward.key.shape().dims());
        let grad_out = inputs.grad_out.into_option().map(tensor_ref);
        let call = Call {
            spec,
            modification,
            engine: Engine::Auto,
            blocks: None,
            recorded: false,
        };
        let inputs = maps::MapInputs {
            forward: kernel_inputs(inputs.forward, call),
            lse: row_ref(inputs.lse),
        };
        let launch = launch(&map, &query.client, &inputs, grad_out.as_ref(), &spec);
        let (values, keys) = launched(launch);
        let keys = keys.map(|keys| wrap(&query, keys, shape.into(), DType::I32));
        MapOutput {
            values: wrap(&query, values, shape.into(), DType::F32),
            keys: MaybeInt::from(keys),
        }
    }
}
