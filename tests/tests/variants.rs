//! Every variant of the catalog, forward and backward, on every device.

use attention_core::{AttentionSpec, DType, oracle::Tensor4};
use attention_kernels::{
    TensorRef,
    catalog::{self, Variant},
    device::elem_type,
    softmax::{self, BackwardInputs, Engine, Inputs, Wanted, engines},
};
use cubecl::{
    client::Client,
    ir::{ElemType, UIntKind},
    server::Handle,
};

use half::f16;

use crate::support::{Layout, runtimes, upload};

const SHAPE: [usize; 4] = [2, 2, 33, 16];

/// Captured tensors of zeros; none where there are no elements.
fn zeros(client: &Client, elements: usize, elem: ElemType) -> Option<TensorRef> {
    let handle = client.create_from_slice(&vec![0; 4 * elements.max(1)]);
    (elements > 0).then(|| TensorRef::contiguous(handle, [1, 1, 1, elements], elem))
}

fn read(client: &Client, handle: Handle, dtype: DType) -> Vec<f32> {
    let bytes = client.read_one(handle).expect("the kernels ran");
    if dtype == DType::F16 {
        let words = bytes.chunks_exact(2);
        return words
            .map(|word| f16::from_le_bytes([word[0], word[1]]).to_f32())
            .collect();
    }
    let words = bytes.chunks_exact(4);
    words
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}

/// Outputs and gradients.
fn run(client: &Client, variant: Variant, dtype: DType, engine: Engine) -> Vec<Vec<f32>> {
    let [batch, heads, rows, dim] = SHAPE;
    let ramp = |phase: f64| {
        let count = batch * heads * rows * dim;
        let values = (0..count).map(|n| (n as f64 * 0.37 + phase).sin());
        let tensor = Tensor4::new(SHAPE, values.collect());
        upload(client, &tensor, dtype, Layout::Contiguous)
    };
    let float = elem_type(DType::F32);
    let [floats, integers, tables] = variant.modification.captured_elements();
    let inputs = Inputs {
        floats: zeros(client, floats, float),
        integers: zeros(client, integers, ElemType::UInt(UIntKind::U32)),
        tables: zeros(client, tables, float),
        modification: variant.modification,
        engine,
        ..Inputs::new(ramp(0.0), ramp(1.0), ramp(2.0))
    };
    let spec = AttentionSpec::default();
    let output = softmax::forward(client, &inputs, &spec).expect("it is accepted");
    let backward = BackwardInputs {
        forward: inputs,
        out: TensorRef::contiguous(output.out.clone(), SHAPE, elem_type(dtype)),
        lse: TensorRef::contiguous(output.lse, [batch, heads, rows, 1], float),
        grad_out: ramp(3.0),
        grad_lse: None,
    };
    let wanted = Wanted {
        bias: false,
        tables: true,
    };
    let gradients = softmax::backward(client, &backward, &spec, wanted).expect("it is accepted");
    let handles = [output.out, gradients.query, gradients.key, gradients.value];
    let mut results: Vec<_> = handles.map(|handle| read(client, handle, dtype)).into();
    if let Some(handle) = gradients.tables {
        let mut gradient = read(client, handle, DType::F32);
        gradient.truncate(tables);
        results.push(gradient);
    }
    results
}

#[test]
fn every_variant_runs_forward_and_backward_and_all_devices_agree() {
    let [batch, heads, rows, _] = SHAPE.map(|size| size as u32);
    for variant in catalog::variants(batch, heads, rows).expect("the sizes are fine") {
        let name = variant.name;
        let results: Vec<_> = runtimes()
            .into_iter()
            .map(|kind| {
                run(
                    &kind.client().expect("the device was found"),
                    variant.clone(),
                    DType::F32,
                    Engine::Auto,
                )
            })
            .collect();
        let first = &results[0];
        for other in &results {
            for (a, b) in first.iter().zip(other) {
                let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs());
                let worst = worst.fold(0.0, f32::max);
                let largest = a.iter().fold(1.0f32, |largest, a| largest.max(a.abs()));
                // Sums of 33 terms, rounded in different orders.
                let bound = 33.0 * f32::EPSILON * largest;
                assert!(worst <= bound, "{name}: {worst:e}, bound {bound:e}");
                assert!(a.iter().all(|value| value.is_finite()), "{name}");
            }
        }
    }
}

#[test]
fn every_variant_agrees_with_the_register_engine_on_matrix_engines() {
    let [batch, heads, rows, _] = SHAPE.map(|size| size as u32);
    let half = elem_type(DType::F16);
    for kind in runtimes() {
        let client = kind.client().expect("the device was found");
        let mut found = engines(&client, half);
        found.retain(|engine| *engine != Engine::Register);
        for engine in found {
            for variant in catalog::variants(batch, heads, rows).expect("the sizes are fine") {
                let name = variant.name;
                let on = |engine| run(&client, variant.clone(), DType::F16, engine);
                for (ours, theirs) in on(engine).iter().zip(on(Engine::Register)) {
                    let largest = theirs.iter().fold(1.0f32, |most, a| most.max(a.abs()));
                    // Weights and gradients of scores are rounded to 11 bits before their products.
                    let bound = 4.0 * largest / 2048.0;
                    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
                    let worst = worst.fold(0.0, f32::max);
                    assert!(
                        worst <= bound,
                        "{kind} {engine} {name}: {worst:e}, bound {bound:e}"
                    );
                    assert!(ours.iter().all(|value| value.is_finite()), "{kind} {name}");
                }
            }
        }
    }
}
