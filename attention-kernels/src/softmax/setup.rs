//! Arguments that passed every check, and what follows from them.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{
    client::Client,
    ir::{AddressType, ElemType, UIntKind},
};

use super::{
    args::{Blueprint, SizesLaunch},
    bind::{self, Widths, extent, step},
    buffers::Buffers,
    checks::{check_blocks, check_elements, check_grid, wrong_dtype},
    engine::Engine,
    plan::{Plan, Walk},
    split::Parts,
    tensors::{BackwardInputs, Inputs},
};
use crate::{
    TensorRef,
    block_map::{BlockListLaunch, Blocks},
    modification::{check_captured, check_tables},
};

/// A checked problem on a device.
pub(crate) struct Setup<'a> {
    pub client: &'a Client,
    pub problem: AttentionProblem,
    pub address: AddressType,
    spec: &'a AttentionSpec,
    pub elem: ElemType,
    pub engine: Engine,
    pub mapped: bool,
}

impl<'a> Setup<'a> {
    pub fn new(
        client: &'a Client,
        inputs: &Inputs,
        spec: &'a AttentionSpec,
    ) -> Result<Self, AttentionError> {
        spec.validate()?;
        let problem = inputs.shapes().validate()?;
        check_elements(client, inputs)?;
        check_captured(&inputs.modification, inputs.captured(), client.properties())?;
        check_tables(&inputs.modification, problem.heads)?;
        check_blocks(inputs, &problem)?;
        check_grid(client, &problem)?;
        Buffers::of(inputs).check(client.properties().hardware.max_bindings, false)?;
        let tensors = [Some(&inputs.query), Some(&inputs.key), Some(&inputs.value)];
        let tables = [inputs.mask.as_ref(), inputs.bias.as_ref()];
        let largest = tensors.into_iter().chain(tables).flatten().map(extent);
        let outputs = problem.output_shape().iter().product::<usize>();
        let address = address_type(client, largest.max().unwrap_or(0).max(outputs))?;
        Ok(Self {
            client,
            problem,
            address,
            spec,
            elem: inputs.query.elem,
            engine: inputs.engine,
            mapped: inputs.block_map.is_some(),
        })
    }

    /// The same call seen as another problem, whose tensors are views of those that were checked.
    pub fn seen_as<'b>(&self, problem: AttentionProblem, spec: &'b AttentionSpec) -> Setup<'b>
    where
        'a: 'b,
    {
        Setup {
            problem,
            spec,
            ..*self
        }
    }

    /// Refuses saved tensors and gradients that do not fit the output, and more buffers than the
    /// backward may bind.
    pub fn check_saved(&self, inputs: &BackwardInputs) -> Result<(), AttentionError> {
        let available = self.client.properties().hardware.max_bindings;
        Buffers::of(&inputs.forward).check(available, true)?;
        let out = self.problem.output_shape();
        let [batch, heads, rows] = self.problem.lse_shape();
        let row = [batch, heads, rows, 1];
        let elem = inputs.forward.query.elem;
        let mut saved = vec![
            ("out", &inputs.out, out, elem),
            ("grad_out", &inputs.grad_out, out, elem),
            ("lse", &inputs.lse, row, bind::F32),
        ];
        saved.extend(
            inputs
                .grad_lse
                .as_ref()
                .map(|grad| ("grad_lse", grad, row, bind::F32)),
        );
        for (argument, tensor, shape, elem) in saved {
            if tensor.shape != shape {
                return Err(AttentionError::Shape {
                    argument,
                    given: tensor.shape.to_vec(),
                    accepted: format!("{shape:?}"),
                });
            }
            if tensor.elem != elem {
                return Err(wrong_dtype(argument, tensor.elem, elem.to_string()));
            }
        }
        Ok(())
    }

    pub fn plan(&self, walk: Walk) -> Plan {
        let dim = self.problem.head_dim.max(self.problem.value_dim);
        let plan = Plan::new(self.client.properties(), walk, dim, self.elem);
        if self.mapped {
            plan.within_blocks()
        } else {
            plan
        }
    }

    /// The parts in which the keys are walked over, where one walk would leave the device idle.
    pub fn parts(&self, plan: &Plan, inputs: &Inputs) -> Option<Parts> {
        let AttentionProblem {
            batch,
            heads,
            seq_q,
            seq_kv,
            ..
        } = self.problem;
        let tiles = batch * heads * plan.tiles(seq_q);
        let map_block = inputs.block_map.as_ref().map(|map| map.shape.block_kv);
        let granule = map_block.unwrap_or(plan.tile.block);
        let hardware = &self.client.properties().hardware;
        Parts::new(hardware, plan, tiles, seq_kv, granule)
    }

    /// Steps of a walk over so many tokens after which its sums are set aside in a result of this type:
    /// where it is shorter than the sums, its own rounding is the larger error.
    pub fn until_aside(&self, plan: &Plan, elem: ElemType, tokens: usize) -> Option<usize> {
        let steps = plan.tile.steps_until_aside(tokens);
        steps.filter(|_| elem == bind::F32)
    }

    /// Rows of the output, and their length.
    pub fn output_rows(&self) -> [usize; 2] {
        let problem = &self.problem;
        [
            problem.batch * problem.heads * problem.seq_q,
            problem.value_dim,
        ]
    }

    pub fn scale(&self) -> f64 {
        self.spec.scale_for(self.problem.head_dim)
    }

    pub fn causal(&self) -> bool {
        self.spec.causal.is_some()
    }

    pub fn softcap(&self) -> bool {
        self.spec.softcap.is_some()
    }

    /// The widest loads that every tensor's strides, offset and size allow.
    pub fn widths(&self, plan: &Plan, inputs: &Inputs, like_value: &[&TensorRef]) -> Widths {
        let mut values = vec![&inputs.value];
        values.extend(like_value);
        Widths {
            head: widest(plan.max_width, &[&inputs.query, &inputs.key]),
            value: widest(plan.max_width, &values),
        }
    }

    /// Tensors without elements cannot be bound and are never read: the other stands in.
    pub fn readable<'t, const T: usize>(
        &self,
        tensors: [&'t TensorRef; T],
        other: &'t TensorRef,
    ) -> [&'t TensorRef; T] {
        tensors.map(|tensor| if extent(tensor) == 0 { other } else { tensor })
    }

    pub fn sizes(&self) -> SizesLaunch {
        let offset = self.problem.causal_offset(self.spec.causal).unwrap_or(0);
        SizesLaunch::new(
            self.problem.batch,
            self.problem.heads,
            self.problem.seq_q,
            self.problem.seq_kv,
            offset.max(0) as usize,
            (-offset).max(0) as usize,
            self.scale() as f32,
            self.spec.softcap.unwrap_or(1.0) as f32,
            f32::NEG_INFINITY,
            0,
        )
    }

    /// `lane_axis` is the axis of the scores that the lanes lie along: 2 for queries, 3 for keys.
    pub fn blueprint(
        &self,
        plan: &Plan,
        inputs: &Inputs,
        like_value: &[&TensorRef],
        lane_axis: usize,
    ) -> Blueprint {
        let uniform = |table: &Option<TensorRef>| {
            table
                .as_ref()
                .is_some_and(|tensor| step(tensor, lane_axis) == 0)
        };
        Blueprint {
            tile: plan.tile,
            head_dim: self.problem.head_dim,
            value_dim: self.problem.value_dim,
            tile_per_unit: plan.tile_per_unit,
            claims_tiles: plan.claims_tiles,
            copies: plan.copies(),
            units: plan.units as usize,
            exponential: plan.exponential,
            group: self.problem.group_size(),
            value_group: self.problem.value_group_size(),
            packed: [&inputs.query, &inputs.key, &inputs.value]
                .iter()
                .chain(like_value)
                .all(|tensor| step(tensor, 3) <= 1),
            causal: self.causal(),
            softcap: self.softcap(),
            mask: inputs.mask.is_some(),
            bias: inputs.bias.is_some(),
            mask_uniform: uniform(&inputs.mask),
            bias_uniform: uniform(&inputs.bias),
            blocks: inputs.block_map.as_ref().map(|map| {
                let (q, kv) = (map.shape.block_q, map.shape.block_kv);
                let (own, across) = if lane_axis == 2 { (q, kv) } else { (kv, q) };
                Blocks { own, across }
            }),
        }
    }

    /// The map's lists for walks over the keys, or, with a `lane_axis` of 3, over the queries.
    pub fn block_list<O: From<Option<BlockListLaunch>>>(
        &self,
        inputs: &Inputs,
        lane_axis: usize,
    ) -> O {
        let list = inputs.block_map.as_ref().map(|map| {
            let shape = &map.shape;
            let (list, own, across) = if lane_axis == 2 {
                (&map.rows, shape.q_blocks(), shape.kv_blocks())
            } else {
                (&map.columns, shape.kv_blocks(), shape.q_blocks())
            };
            let row = across + 1;
            let of_head = own * row;
            let of_batch = shape.heads * of_head;
            BlockListLaunch::new(
                bind::bind(list, 1),
                if shape.batch > 1 { of_batch } else { 0 },
                if shape.heads > 1 { of_head } else { 0 },
                row,
            )
        });
        list.into()
    }

    /// The mask's element type; any that every device has where there is no mask.
    pub fn mask_elem(&self, inputs: &Inputs) -> ElemType {
        let none = ElemType::UInt(UIntKind::U32);
        inputs.mask.as_ref().map_or(none, |mask| mask.elem)
    }
}

/// The widest loads, of at most so many elements, that strides, offsets and sizes allow.
pub(super) fn widest(most: usize, tensors: &[&TensorRef]) -> usize {
    [8, 4, 2]
        .into_iter()
        .find(|&width| width <= most && allow_width(width, tensors))
        .unwrap_or(1)
}

/// Whether strides, offsets and sizes allow loads of so many elements.
pub(super) fn allow_width(width: usize, tensors: &[&TensorRef]) -> bool {
    tensors.iter().all(|tensor| {
        let offset = tensor.handle.offset_start.unwrap_or(0) as usize;
        tensor.shape[3].is_multiple_of(width)
            && step(tensor, 3) <= 1
            && (0..3).all(|axis| step(tensor, axis).is_multiple_of(width))
            && offset.is_multiple_of(width * tensor.elem.size())
    })
}

/// Addresses of 32 bits where they suffice. A core has 64-bit addressing for free, and sums of
/// 32-bit indices, which may wrap, cannot be folded into its loads.
pub(crate) fn address_type(client: &Client, largest: usize) -> Result<AddressType, AttentionError> {
    let properties = client.properties();
    let wide = properties.supports_address(AddressType::U64);
    let core = properties.hardware.num_cpu_cores.is_some();
    match (u32::try_from(largest).is_ok(), wide) {
        (_, true) if core => return Ok(AddressType::U64),
        (true, _) => return Ok(AddressType::U32),
        (false, true) => return Ok(AddressType::U64),
        (false, false) => {}
    }
    Err(AttentionError::Value {
        argument: "elements of the largest tensor",
        given: largest.to_string(),
        accepted: format!("at most {}: the device has 32-bit addresses", u32::MAX),
    })
}
