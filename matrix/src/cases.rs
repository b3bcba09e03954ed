//! The launches whose kernels the matrix compiles.

use anyhow::Result;
use attention_core::{AttentionError, AttentionSpec, CausalAlignment, DType};
use attention_kernels::{
    TensorRef,
    block_map::{BlockMap, BlockShape, block_map},
    catalog::{self, Entry, Sizes},
    device::{elem_type, offers},
    modification::Modification,
    softmax::{self, BackwardInputs, Engine, Inputs, Wanted, maps},
};
use cubecl::{
    client::Client,
    ir::{ElemType, UIntKind},
};

/// What is launched.
#[derive(Debug, Clone)]
enum Launch {
    /// Forward and backward, every gradient wanted.
    Attention,
    /// The block map of the code's mask, then forward and backward with it.
    Mapped,
    /// Every attention map.
    Maps,
}

/// One call, and the tensors that it is given.
#[derive(Debug, Clone)]
pub struct Case {
    /// As `--case` spells it.
    pub name: String,
    entry: Entry,
    dtype: DType,
    modification: Modification,
    launch: Launch,
}

/// Lengths of what is compiled to be measured: full blocks of the largest tiles.
const MEASURED: usize = 4096;
/// Of sums that are set aside.
const LONG: usize = 16384;

/// Every case: the catalog in every dtype, every variant, its block map if it is a mask, and maps.
///
/// # Errors
/// A variant that refuses the sizes.
pub fn all() -> Result<Vec<Case>> {
    let mut cases = measured();
    for entry in catalog::softmax() {
        let both = [DType::F32, DType::F16];
        // What is read and written differs, and every option meets it in one entry.
        let third = (entry.name == "softmax/everything").then_some(DType::BF16);
        for dtype in both.into_iter().chain(third) {
            cases.push(Case::new(entry.clone(), dtype));
        }
    }
    const SIZES: Sizes = [2, 4, 2, 64, 64, 64, 64];
    for variant in catalog::variants(2, 4, 64)? {
        let entry = Entry::new(format!("code/{}", variant.name), SIZES);
        let case = Case {
            modification: variant.modification,
            ..Case::new(entry, DType::F32)
        };
        if case.modification.masks() {
            cases.push(Case {
                name: case.name.replace("code/", "block-map/"),
                launch: Launch::Mapped,
                ..case.clone()
            });
        }
        cases.push(case);
    }
    for entry in catalog::softmax() {
        let name = entry.name.replace("softmax/", "maps/");
        if ["maps/self", "maps/everything"].contains(&name.as_str()) {
            cases.push(Case {
                launch: Launch::Maps,
                ..Case::new(Entry { name, ..entry }, DType::F32)
            });
        }
    }
    Ok(cases)
}

/// Plain attention of the usual head dimensions: what registers and instructions are counted of.
pub fn measured() -> Vec<Case> {
    let mut cases = Vec::new();
    for dim in [32, 64, 128, 256] {
        let sizes = [1, 8, 8, MEASURED, MEASURED, dim, dim];
        let entry = Entry::new(format!("measured/d{dim}"), sizes);
        // The instructions of both halves differ in name only: seen where floors are.
        let third = [64, 128].contains(&dim).then_some(DType::BF16);
        for dtype in [DType::F32, DType::F16].into_iter().chain(third) {
            cases.push(Case::new(entry.clone(), dtype));
        }
        let causal = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
        let name = format!("measured/d{dim}-causal");
        let causal = Entry { name, ..entry }.with_spec(causal);
        cases.push(Case::new(causal, DType::F16));
        if third.is_some() {
            let long = [1, 8, 8, LONG, LONG, dim, dim];
            let entry = Entry::new(format!("measured/d{dim}-long"), long);
            cases.push(Case::new(entry, DType::F32));
        }
    }
    cases
}

impl Case {
    fn new(entry: Entry, dtype: DType) -> Self {
        let dtype_name = format!("{dtype:?}").to_lowercase();
        Self {
            name: format!("{}/{dtype_name}", entry.name),
            entry,
            dtype,
            modification: Modification::default(),
            launch: Launch::Attention,
        }
    }

    /// Whether a device has the case's element type.
    pub fn is_for(&self, client: &Client) -> bool {
        offers(client, self.dtype)
    }

    /// Launches every kernel of the case.
    ///
    /// # Errors
    /// What the launches refuse.
    pub fn launch(&self, client: &Client) -> Result<(), AttentionError> {
        let float = elem_type(DType::F32);
        let tensor = |shape: [usize; 4], elem: ElemType| {
            let elements: usize = shape.iter().product();
            TensorRef::contiguous(client.empty(elements * elem.size()), shape, elem)
        };
        let flat =
            |elements: usize, elem| (elements > 0).then(|| tensor([1, 1, 1, elements], elem));
        let elem = elem_type(self.dtype);
        let word = ElemType::UInt(UIntKind::U32);
        let [floats, integers, tables] = self.modification.captured_elements();
        let shapes = &self.entry.shapes;
        let mut inputs = Inputs {
            query: tensor(shapes.query, elem),
            key: tensor(shapes.key, elem),
            value: tensor(shapes.value, elem),
            mask: shapes.mask.map(|shape| tensor(shape, word)),
            bias: shapes.bias.map(|shape| tensor(shape, elem)),
            modification: self.modification.clone(),
            floats: flat(floats, float),
            integers: flat(integers, word),
            tables: flat(tables, float),
            block_map: None,
            engine: Engine::Auto,
        };
        if matches!(self.launch, Launch::Mapped) {
            inputs.block_map = Some(self.map(client, &inputs)?);
        }
        let [batch, heads, seq_q, _] = shapes.query;
        let row = [batch, heads, seq_q, 1];
        let output = [batch, heads, seq_q, shapes.value[3]];
        if matches!(self.launch, Launch::Maps) {
            let inputs = maps::MapInputs {
                forward: inputs,
                lse: tensor(row, float),
            };
            return self.launch_maps(client, &inputs, &tensor(output, elem));
        }
        softmax::forward(client, &inputs, &self.entry.spec)?;
        let backward = BackwardInputs {
            forward: inputs,
            out: tensor(output, elem),
            lse: tensor(row, float),
            grad_out: tensor(output, elem),
            grad_lse: Some(tensor(row, float)),
        };
        let wanted = Wanted {
            bias: true,
            tables: true,
        };
        softmax::backward(client, &backward, &self.entry.spec, wanted)?;
        Ok(())
    }

    fn map(&self, client: &Client, inputs: &Inputs) -> Result<BlockMap, AttentionError> {
        let [seq_q, seq_kv] = [&inputs.query, &inputs.key].map(|tensor| tensor.shape[2]);
        let (floats, integers) = (inputs.floats.as_ref(), inputs.integers.as_ref());
        let shape = BlockShape::new(seq_q, seq_kv);
        block_map(client, &inputs.modification, floats, integers, shape)
    }

    fn launch_maps(
        &self,
        client: &Client,
        inputs: &maps::MapInputs,
        grad_out: &TensorRef,
    ) -> Result<(), AttentionError> {
        let spec = &self.entry.spec;
        let rows = [0, 3];
        maps::rows(client, inputs, spec, &rows)?;
        maps::received(client, inputs, spec)?;
        maps::pooled(client, inputs, spec, [4, 4])?;
        maps::entropy(client, inputs, spec)?;
        maps::top_keys(client, inputs, spec, 5)?;
        maps::gradient_times_attention(client, inputs, spec, grad_out, &rows)?;
        Ok(())
    }
}
