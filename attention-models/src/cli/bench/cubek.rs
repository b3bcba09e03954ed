//! cubek's flash attention without matrix units, launched without Burn.

use anyhow::{Result, anyhow};
use attention_core::DType;
use cubecl::{
    client::Client,
    future::block_on,
    ir::{ElemType, FloatKind, UIntKind},
    prelude::TensorBinding,
    server::Handle,
    zspace::{Shape as Extents, Strides, Tiling},
};
use cubek::attention::forward::{
    definition::{AccumulatorPrecision, AttentionGlobalTypes, AttentionOptions},
    launch::{BlueprintStrategy, Strategy, launch_ref},
};

use super::{shape::Shape, workload::Workload};

/// The forward pass of a shape on a device, whose queries are as many as its keys.
pub struct UnitKernel {
    shape: Shape,
    client: Client,
    inputs: [Handle; 3],
    out: Handle,
}

impl UnitKernel {
    /// The tensors of `workload`.
    pub fn new(workload: &Workload, client: &Client) -> Self {
        let inputs = workload
            .data()
            .map(|data| client.create_from_slice(data.as_bytes()));
        let size = inputs[0].size() as usize;
        Self {
            shape: workload.shape(),
            client: client.clone(),
            inputs,
            out: client.empty(size),
        }
    }

    /// Runs once and waits for the device.
    ///
    /// # Errors
    /// A shape that cubek refuses on this device.
    pub fn run(&self) -> Result<()> {
        let elem = ElemType::Float(match self.shape.dtype {
            DType::F32 => FloatKind::F32,
            DType::F16 => FloatKind::F16,
            DType::BF16 => FloatKind::BF16,
        });
        let types = AttentionGlobalTypes {
            query: elem,
            key: elem,
            value: elem,
            mask: ElemType::UInt(UIntKind::U8),
            out: elem,
        };
        let options = AttentionOptions {
            causal: self.shape.causal,
            accumulator_precision: AccumulatorPrecision::Strict(ElemType::Float(FloatKind::F32)),
        };
        let [query, key, value] = self.inputs.each_ref().map(|handle| self.bind(handle));
        launch_ref(
            Strategy::Unit(BlueprintStrategy::Inferred(())),
            &self.client,
            query,
            key,
            value,
            None,
            self.bind(&self.out),
            &types,
            options,
        )
        .map_err(|error| anyhow!("{error:?}"))?;
        block_on(self.client.sync()).map_err(|error| anyhow!("{error}"))
    }

    fn bind(&self, handle: &Handle) -> TensorBinding {
        let [[batch, heads, seq, dim], ..] = self.shape.dims();
        TensorBinding {
            handle: handle.clone().binding(),
            strides: Strides::new(&[heads * seq * dim, seq * dim, dim, 1]),
            shape: Extents::new([batch, heads, seq, dim]),
            tiling: Tiling::default(),
        }
    }
}
