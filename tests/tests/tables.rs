//! The gradients of learned tables against the oracle, whose dense bias has the gradient of every
//! score, and against Burn's own, which gathers the bias from the table.

use attention_core::{
    AttentionSpec, CausalAlignment, DType,
    oracle::{self, Tensor4},
};
use attention_kernels::{
    catalog::{Entry, Sizes},
    modification::{Captured, Lanes, Place},
};
use attention_models::{
    cli::verify::{
        case::{Case, Outputs},
        upload_mask,
        variants::{floats, integers, show},
    },
    ops::{
        AttentionOptions, BlockMap, BlockShape, ScoreMod, attention_with_lse,
        composition::unfused_attention, try_attention, variants,
    },
};
use burn::tensor::{Device, Tensor, activation::softmax};
use cubecl::prelude::*;

use crate::support::{devices, out_of_bounds, outputs, places};

/// A table, and how ours and the oracle read it.
#[derive(Clone, Copy)]
struct Lookup {
    sizes: Sizes,
    spec: AttentionSpec,
    slots: usize,
    per_head: bool,
    /// Slot and factor of a query and a key.
    entry: fn(usize, usize) -> (usize, f64),
    visible: fn([usize; 4]) -> bool,
    options: fn(Tensor<1>, &Device) -> AttentionOptions,
}

impl Lookup {
    fn table(&self) -> Vec<f64> {
        let heads = if self.per_head { self.sizes[1] } else { 1 };
        let values = (0..heads * self.slots).map(|n| ((n as f64 * 0.37).sin() * 8.0).round() / 8.0);
        values.collect()
    }

    fn index(&self, [_, head, i, j]: [usize; 4]) -> usize {
        let first = if self.per_head { head * self.slots } else { 0 };
        first + (self.entry)(i, j).0
    }

    /// The case with a dense bias for the oracle, its truth, and what Burn's own operations give.
    fn case(&self) -> (Case, Outputs, Outputs) {
        let [batch, heads, _, rows, keys, ..] = self.sizes;
        let mut case = Case::of(&Entry::new("table", self.sizes).with_spec(self.spec));
        show(&mut case, self.visible);
        let table = self.table();
        let terms =
            places(self.sizes).map(|at| table[self.index(at)] * (self.entry)(at[2], at[3]).1);
        case.inputs.bias = Some(Tensor4::new([batch, heads, rows, keys], terms.collect()));
        let case = case.rounded_to(DType::F32);

        let mut expected = case.expected().expect("the oracle accepts the case");
        let (_, of_scores) = expected.pop().expect("the bias comes last");
        let mut gradient = vec![0.0; table.len()];
        for (at, of_score) in places(self.sizes).zip(of_scores) {
            gradient[self.index(at)] += of_score * (self.entry)(at[2], at[3]).1;
        }
        expected.push(("dtable", gradient));
        let unfused = self.unfused(&case);
        (case, expected, unfused)
    }

    fn unfused(&self, case: &Case) -> Outputs {
        let device = Device::flex().autodiff();
        let [batch, heads, _, rows, keys, ..] = self.sizes;
        let table = floats(&self.table(), &device).require_grad();
        let index: Vec<i32> = places(self.sizes).map(|at| self.index(at) as i32).collect();
        let factor: Vec<f64> = places(self.sizes)
            .map(|at| (self.entry)(at[2], at[3]).1)
            .collect();
        let terms = table.clone().select(0, integers(&index, &device)) * floats(&factor, &device);
        let options = AttentionOptions {
            mask: case
                .inputs
                .mask
                .as_ref()
                .map(|mask| upload_mask(mask, &device)),
            ..AttentionOptions::from(self.spec)
        }
        .with_bias(terms.reshape([batch, heads, rows, keys]));
        outputs(
            case,
            DType::F32,
            &device,
            &[("dtable", table)],
            |[query, key, value]| {
                unfused_attention(query, key, value, options).expect("Burn accepts the case")
            },
        )
    }

    fn failures(&self) -> Vec<String> {
        let (case, expected, unfused) = self.case();
        out_of_bounds("table", DType::F32, &expected, &unfused, |device| {
            self.ours(&case, device)
        })
    }

    fn ours(&self, case: &Case, device: &Device) -> Outputs {
        let device = device.clone().autodiff();
        let table = floats(&self.table(), &device).require_grad();
        let options = (self.options)(table.clone(), &device);
        outputs(
            case,
            DType::F32,
            &device,
            &[("dtable", table)],
            |[query, key, value]| attention_with_lse(query, key, value, options),
        )
    }
}

/// The distance in steps of two, from 0.
#[cube]
fn pairs_apart(at: &Place, _captured: &Captured) -> Vector<u32, Lanes> {
    (max(at.query, at.key) - min(at.query, at.key)) / Vector::new(2u32)
}

/// As the distance grows, less.
#[cube]
fn nearness(at: &Place, _captured: &Captured) -> Vector<f32, Lanes> {
    let distance = max(at.query, at.key) - min(at.query, at.key);
    Vector::new(1.0f32) / (Vector::new(1.0f32) + Vector::cast_from(distance))
}

fn all(_: [usize; 4]) -> bool {
    true
}

fn assert_right(lookups: &[Lookup]) {
    let failures: Vec<_> = lookups.iter().flat_map(Lookup::failures).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

const SIZES: Sizes = [2, 4, 2, 37, 53, 32, 16];

#[test]
fn a_table_for_each_head_receives_the_gradient_of_the_scores_that_read_it() {
    let lookup = Lookup {
        sizes: SIZES,
        spec: AttentionSpec::default().with_causal(CausalAlignment::BottomRight),
        slots: 7,
        per_head: true,
        // From 12 on, the last slot.
        entry: |i, j| ((i.abs_diff(j) / 2).min(6), 1.0),
        visible: |[_, _, _, j]| j < 40,
        options: |table, device| {
            AttentionOptions::default()
                .with_causal(CausalAlignment::BottomRight)
                .with_score_mod(ScoreMod::lookup(table, 7, pairs_apart::expand))
                .with_mask_mod(variants::padding(integers(&[40, 40], device)))
        },
    };
    assert_right(&[lookup]);
}

#[test]
fn a_table_that_heads_share_receives_the_gradient_of_all_of_them() {
    let lookup = Lookup {
        sizes: SIZES,
        spec: AttentionSpec::default(),
        slots: 30,
        per_head: false,
        entry: |i, j| (i.abs_diff(j) / 2, 1.0 / (1.0 + i.abs_diff(j) as f64)),
        visible: all,
        options: |table, _| {
            let lookup = ScoreMod::scaled_lookup(table, 30, pairs_apart::expand, nearness::expand);
            AttentionOptions::default().with_score_mod(lookup)
        },
    };
    assert_right(&[lookup]);
}

#[test]
fn slopes_of_alibi_and_buckets_of_t5_are_learned() {
    let alibi = Lookup {
        sizes: SIZES,
        spec: AttentionSpec::default(),
        slots: 1,
        per_head: true,
        entry: |i, j| (0, -(i.abs_diff(j) as f64)),
        visible: all,
        options: |table, _| AttentionOptions::default().with_score_mod(variants::alibi(table, 0)),
    };
    let buckets = Lookup {
        slots: 8,
        entry: |i, j| {
            let buckets = variants::relative_position_buckets(8, 16, true);
            let bucket = buckets[i.abs_diff(j).min(16)] as usize;
            (bucket + if j > i { 4 } else { 0 }, 1.0)
        },
        options: |table, device| {
            let buckets = variants::relative_position_buckets(8, 16, true);
            let buckets = integers(&buckets, device);
            let bias = variants::relative_position_bias(table, buckets, 8, true, 0);
            AttentionOptions::default().with_score_mod(bias)
        },
        ..alibi
    };
    assert_right(&[alibi, buckets]);
}

#[test]
fn a_block_map_and_more_slots_than_memory_for_every_query_keep_the_gradient() {
    let lookup = Lookup {
        sizes: [1, 4, 4, 150, 150, 16, 16],
        spec: AttentionSpec::default(),
        // So many that queries share rows of sums.
        slots: 12_000,
        per_head: true,
        entry: |i, j| (i.abs_diff(j) / 2, 1.0),
        visible: |[_, _, i, j]| j <= i && i - j < 20,
        options: |table, device| {
            let window = variants::sliding_window(19, 0, 0);
            let map = BlockMap::new(window, BlockShape::new(150, 150), device);
            AttentionOptions::default()
                .with_score_mod(ScoreMod::lookup(table, 12_000, pairs_apart::expand))
                .with_block_map(map)
        },
    };
    assert_right(&[lookup]);
}

#[test]
fn the_gradient_of_a_table_passes_through_the_modifications_after_it() {
    const STEP: f64 = 1e-5;
    let case = Case::of(&Entry::new("table", [2, 4, 4, 37, 53, 32, 16])).rounded_to(DType::F32);
    // Each entry moves all scores of its head alike, before they are capped and halved.
    let entries = [0.5, -1.0, 0.25, 2.0];
    let loss = |entries: [f64; 4]| {
        let score = |score: f64, [_, head, ..]: [usize; 4]| {
            let t = ((score + entries[head]) / 3.0).tanh();
            (1.5 * t, 0.5 * (1.0 - t * t))
        };
        let modification = oracle::Modification {
            score: Some(&score),
            visible: None,
            weight: None,
        };
        let spec = AttentionSpec::default();
        let forward = oracle::forward_modified(&case.inputs, &spec, modification).expect("it fits");
        let products = forward.out.data.iter().zip(&case.grad_out.data);
        products.map(|(out, grad)| out * grad).sum::<f64>()
    };
    let derivative = |head: usize| {
        let moved = |step: f64| {
            let mut entries = entries;
            entries[head] += step;
            loss(entries)
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
    };
    let expected = vec![("dtable", (0..4).map(derivative).collect())];

    let on = |device: &Device, attend: fn([Tensor<4>; 3], Tensor<1>) -> (Tensor<4>, Tensor<3>)| {
        let device = device.clone().autodiff();
        let table = floats(&entries, &device).require_grad();
        let learned = [("dtable", table.clone())];
        outputs(&case, DType::F32, &device, &learned, |inputs| {
            attend(inputs, table)
        })
    };
    let unfused = on(&Device::flex(), |[query, key, value], table| {
        let scores = query.matmul(key.swap_dims(2, 3)) / 32f32.sqrt();
        let scores = scores + table.reshape([1, 4, 1, 1]);
        let scores = (scores / 3.0).tanh() * 1.5;
        let lse = scores.clone().exp().sum_dim(3).log().squeeze_dim::<3>(3);
        (softmax(scores, 3).matmul(value), lse)
    });
    let failures = out_of_bounds("table", DType::F32, &expected, &unfused, |device| {
        on(device, |[query, key, value], table| {
            let moved = ScoreMod::lookup(table, 1, no_slot::expand);
            let halved = ScoreMod::multiplicative(half::expand);
            let options = AttentionOptions::default()
                .with_score_mod(moved.then(variants::softcap(3.0)).then(halved));
            attention_with_lse(query, key, value, options)
        })
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[cube]
fn no_slot(_at: &Place, _captured: &Captured) -> Vector<u32, Lanes> {
    Vector::new(0u32)
}

#[cube]
fn half(_at: &Place, _captured: &Captured) -> Vector<f32, Lanes> {
    Vector::new(0.5f32)
}

#[test]
fn without_queries_or_keys_a_table_and_a_broadcast_bias_have_gradients_of_0() {
    for kind in devices() {
        let device = kind.open().expect("the device was found").autodiff();
        for (rows, keys) in [(0, 5), (5, 0)] {
            let query = Tensor::<4>::ones([1, 2, rows, 8], &device).require_grad();
            let key = Tensor::<4>::ones([1, 2, keys, 8], &device);
            let table = Tensor::<1>::ones([2 * 3], &device).require_grad();
            let bias = Tensor::<4>::ones([1, 2, 1, 1], &device).require_grad();
            let options = AttentionOptions::default()
                .with_score_mod(ScoreMod::lookup(table.clone(), 3, pairs_apart::expand))
                .with_bias(bias.clone());
            let (out, _) = attention_with_lse(query, key.clone(), key, options);
            let gradients = out.sum().backward();
            let zeros = |gradient: Vec<f32>| gradient.iter().all(|&value| value == 0.0);
            let of_table = table.grad(&gradients).expect("it is tracked").into_data();
            let of_bias = bias.grad(&gradients).expect("it is tracked").into_data();
            assert!(zeros(of_table.iter().collect()), "{kind} {rows} x {keys}");
            assert!(zeros(of_bias.iter().collect()), "{kind} {rows} x {keys}");
        }
    }
}

#[test]
fn a_table_that_fits_no_number_of_heads_is_refused() {
    let x = Tensor::<4>::ones([1, 4, 5, 8], &Device::flex());
    let table = Tensor::<1>::ones([3], &Device::flex());
    let options =
        AttentionOptions::default().with_score_mod(ScoreMod::lookup(table, 2, pairs_apart::expand));
    assert_eq!(
        try_attention(x.clone(), x.clone(), x, options)
            .unwrap_err()
            .to_string(),
        "`score_mod` has shape [3]; accepted: a table of 2 slots, at least 1, or of 8 for 4 heads"
    );
}
