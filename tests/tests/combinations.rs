//! Generated combinations of all that a call can spell, forward and backward, against the oracle, which
//! gets the same as a mask, a bias, a softcap and factors of probabilities.

use std::sync::Arc;

use attention_core::{
    AttentionSpec, CausalAlignment, DType,
    oracle::{Mask4, Tensor4},
};
use attention_kernels::{
    catalog::{Entry, Sizes},
    variants,
};
use attention_models::{
    cli::verify::case::{Case, Outputs},
    ops::{
        AttentionOptions, BlockMap, BlockShape, MaskMod, attention_with_lse, try_attention_packed,
    },
};
use burn::tensor::{Device, Int, Tensor};
use proptest::prelude::*;

use crate::{
    dropout::{self, SEED},
    packed::{Ends, packed, unpacked},
    support::{devices, out_of_bounds, outputs, places},
};

type Visible = Arc<dyn Fn([usize; 4]) -> bool + Send + Sync>;
type OnDevice = Arc<dyn Fn(&Device) -> MaskMod + Send + Sync>;

/// A mask as code, and the same on the host.
#[derive(Clone)]
struct Masked {
    code: OnDevice,
    visible: Visible,
}

impl Masked {
    fn new(
        code: impl Fn(&Device) -> MaskMod + Send + Sync + 'static,
        visible: impl Fn([usize; 4]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            code: Arc::new(code),
            visible: Arc::new(visible),
        }
    }

    /// One of the literature's masks.
    fn leaf(choice: usize) -> Self {
        let integers = |values: Vec<i32>, device: &Device| {
            Tensor::<1, Int>::from_data(values.as_slice(), device)
        };
        // Beyond the last document that is given, all tokens are its.
        let document = |position: usize| (position.min(63) / 11) as i32;
        match choice % 6 {
            0 => Self::new(
                |_| variants::sliding_window(9, 3, 2),
                |[_, _, i, j]| j + 9 >= i + 2 && j <= i + 2 + 3,
            ),
            1 => Self::new(
                |_| variants::dilated_window(4, 3),
                |[_, _, i, j]| i.abs_diff(j) % 3 == 0 && i.abs_diff(j) <= 12,
            ),
            2 => Self::new(
                move |device| {
                    let documents = integers((0..64).map(document).collect(), device);
                    variants::same_document(documents.clone(), documents)
                },
                move |[_, _, i, j]| document(i) == document(j),
            ),
            3 => Self::new(
                move |device| variants::prefix_lm(integers(vec![7, 21], device)),
                |[batch, _, i, j]| j <= i || j < [7, 21][batch],
            ),
            4 => Self::new(|_| variants::first_tokens(4), |[_, _, _, j]| j < 4),
            _ => Self::new(
                move |device| variants::padding(integers(vec![40, 17], device)),
                |[batch, _, _, j]| j < [40, 17][batch],
            ),
        }
    }

    fn combined(self, other: Self, choice: usize) -> Self {
        let (a, b) = (self.clone(), other.clone());
        match choice % 3 {
            0 => Self::new(
                move |device| (self.code)(device).and((other.code)(device)),
                move |at| (a.visible)(at) && (b.visible)(at),
            ),
            1 => Self::new(
                move |device| (self.code)(device).or((other.code)(device)),
                move |at| (a.visible)(at) || (b.visible)(at),
            ),
            _ => Self::new(
                move |device| (self.code)(device).and((other.code)(device).not()),
                move |at| (a.visible)(at) && !(b.visible)(at),
            ),
        }
    }
}

/// What a call spells.
#[derive(Debug, Clone)]
struct Spelled {
    sizes: Sizes,
    /// The leaves of the mask, and how each joins those before it.
    masks: Vec<(usize, usize)>,
    mapped: bool,
    capped: bool,
    biased: bool,
    causal: bool,
    dropout: Option<f64>,
    packed: Option<Ends>,
}

fn spelled() -> impl Strategy<Value = Spelled> {
    let sizes = prop::sample::select(vec![
        [2, 4, 2, 37, 53, 32, 40],
        [2, 2, 2, 33, 33, 40, 16],
        [2, 6, 1, 5, 19, 16, 16],
        [1, 2, 1, 90, 140, 16, 32],
    ]);
    let masks = prop::collection::vec((0..6usize, 0..3usize), 1..4);
    let lengths = prop::collection::vec((0..60usize, 0..60usize), 1..5);
    let options = (
        any::<[bool; 4]>(),
        prop::option::of(prop::sample::select(vec![0.1, 0.5])),
        prop::option::of(lengths),
    );
    (sizes, masks, options).prop_map(
        |(sizes, masks, ([mapped, capped, biased, causal], dropout, lengths))| {
            let packed = lengths.and_then(|lengths| Ends::of(&lengths));
            let sizes = packed.as_ref().map_or(sizes, |ends| {
                [
                    1,
                    sizes[1],
                    sizes[2],
                    ends.queries(),
                    ends.keys(),
                    sizes[5],
                    sizes[6],
                ]
            });
            Spelled {
                sizes,
                masks,
                mapped,
                capped,
                biased,
                causal,
                dropout,
                packed,
            }
        },
    )
}

impl Spelled {
    fn mask(&self) -> Masked {
        let mut masks = self.masks.iter();
        let first = masks.next().map_or(0, |(leaf, _)| *leaf);
        masks.fold(Masked::leaf(first), |mask, &(leaf, how)| {
            mask.combined(Masked::leaf(leaf), how)
        })
    }

    /// Causality of all tokens; that of packed sequences is theirs.
    fn spec(&self) -> AttentionSpec {
        let spec = AttentionSpec::default();
        if self.causal && self.packed.is_none() {
            spec.with_causal(CausalAlignment::BottomRight)
        } else {
            spec
        }
    }

    fn causal_in_sequences(&self) -> Option<CausalAlignment> {
        self.causal.then_some(CausalAlignment::BottomRight)
    }

    /// The case as the oracle gets it.
    fn case(&self, dtype: DType) -> Case {
        let mut case = Case::of(&Entry::new(format!("{self:?}"), self.sizes));
        let [batch, heads, _, rows, keys, ..] = self.sizes;
        let shape = [batch, heads, rows, keys];
        let mask = self.mask();
        let visible = |at: [usize; 4]| {
            let sequences = self.packed.as_ref();
            let in_sequence =
                sequences.is_none_or(|ends| ends.sees(self.causal_in_sequences(), at[2], at[3]));
            in_sequence && (mask.visible)(at)
        };
        let hidden = places(self.sizes).map(|at| !visible(at)).collect();
        case.inputs.mask = Some(Mask4::new(shape, hidden));
        if self.biased {
            let slopes = variants::alibi_slopes(heads);
            let term =
                |[_, head, i, j]: [usize; 4]| -f64::from(slopes[head]) * i.abs_diff(j) as f64;
            case.inputs.bias = Some(Tensor4::new(shape, places(self.sizes).map(term).collect()));
        }
        let spec = self.spec();
        case.spec = if self.capped {
            spec.with_softcap(2.0)
        } else {
            spec
        };
        case.rounded_to(dtype)
    }

    fn options(&self, device: &Device) -> AttentionOptions {
        let [batch, heads, _, rows, keys, ..] = self.sizes;
        let mask = (self.mask().code)(device);
        let options = AttentionOptions::from(self.spec());
        let mut options = if self.mapped && self.packed.is_none() {
            let shape = BlockShape::new(rows, keys)
                .with_batch(batch)
                .with_heads(heads);
            options.with_block_map(BlockMap::new(mask, shape, device))
        } else {
            options.with_mask_mod(mask)
        };
        if self.capped {
            options = options.with_score_mod(variants::softcap(2.0));
        }
        if self.biased {
            let slopes = variants::alibi_slopes(heads);
            let slopes = Tensor::from_data(slopes.as_slice(), device);
            options = options.with_score_mod(variants::alibi(slopes, 0));
        }
        let dropout = self.dropout.unwrap_or(0.0);
        options
            .with_dropout(dropout, SEED)
            .expect("it is a probability")
    }

    fn ours(&self, case: &Case, dtype: DType, device: &Device) -> Outputs {
        let device = device.clone().autodiff();
        let options = self.options(&device);
        outputs(case, dtype, &device, &[], |inputs| match &self.packed {
            Some(ends) => {
                let causal = self.causal_in_sequences();
                let sequences = ends.sequences(causal, &device);
                let [query, key, value] = inputs.map(packed);
                unpacked(try_attention_packed(query, key, value, &sequences, options))
            }
            None => {
                let [query, key, value] = inputs;
                attention_with_lse(query, key, value, options)
            }
        })
    }

    fn failures(&self, dtype: DType) -> Vec<String> {
        let case = self.case(dtype);
        let probability = self.dropout.unwrap_or(0.0);
        let factor = |at| dropout::factor(probability, SEED, at);
        let expected = dropout::truth(&case, factor);
        let factors: Vec<_> = places(self.sizes).map(factor).collect();
        let unfused = dropout::unfused(&case, dtype, &factors);
        out_of_bounds(&case.name, dtype, &expected, &unfused, |device| {
            self.ours(&case, dtype, device)
        })
    }
}

fn assert_combinations_agree(dtype: DType, cases: u32) {
    // The same cases on every run: a device compiles each of them for a second or more.
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 0,
        failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    };
    proptest!(config, |(spelled in spelled())| {
        let failures = spelled.failures(dtype);
        prop_assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    });
}

#[test]
fn combinations_agree_with_the_oracle_forward_and_backward() {
    assert_combinations_agree(DType::F32, 16);
}

#[test]
fn combinations_agree_with_the_oracle_in_half_precision() {
    assert_combinations_agree(DType::F16, 4);
}

#[test]
fn combinations_keep_the_same_bits_over_fifty_repeats() {
    let spelled = Spelled {
        sizes: [2, 4, 2, 90, 140, 32, 16],
        masks: vec![(0, 0), (3, 1)],
        mapped: true,
        capped: true,
        biased: true,
        causal: true,
        dropout: Some(0.1),
        packed: None,
    };
    let case = spelled.case(DType::F32);
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let first = spelled.ours(&case, DType::F32, &device);
        for _ in 0..50 {
            assert_eq!(spelled.ours(&case, DType::F32, &device), first, "{kind}");
        }
    }
}
