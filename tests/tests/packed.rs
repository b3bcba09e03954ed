//! Packed sequences against the oracle, which sees them through a dense mask.

use attention_core::{AttentionError, AttentionSpec, CausalAlignment, DType};
use attention_kernels::catalog::{Entry, Sizes};
use attention_models::{
    cli::verify::{
        case::Case,
        variants::{floats, show},
    },
    ops::{AttentionOptions, PackedSequences, try_attention_packed, variants},
};
use burn::tensor::{Device, Tensor};

use crate::support::{devices, out_of_bounds, outputs};

/// Where sequences end.
#[derive(Debug, Clone)]
pub struct Ends {
    queries: Vec<usize>,
    keys: Vec<usize>,
}

impl Ends {
    /// Of sequences with so many queries and keys; none without a query or without a key.
    pub fn of(lengths: &[(usize, usize)]) -> Option<Self> {
        let mut ends = Self {
            queries: vec![0],
            keys: vec![0],
        };
        for (queries, keys) in lengths {
            ends.queries.push(ends.queries() + queries);
            ends.keys.push(ends.keys() + keys);
        }
        (ends.queries() > 0 && ends.keys() > 0).then_some(ends)
    }

    /// Of all sequences.
    pub fn queries(&self) -> usize {
        self.queries[self.queries.len() - 1]
    }

    /// Of all sequences.
    pub fn keys(&self) -> usize {
        self.keys[self.keys.len() - 1]
    }

    /// On a device.
    pub fn sequences(&self, causal: Option<CausalAlignment>, device: &Device) -> PackedSequences {
        PackedSequences::new(&self.queries, &self.keys, causal, device)
    }

    /// Whether a packed query sees a packed key.
    pub fn sees(&self, causal: Option<CausalAlignment>, i: usize, j: usize) -> bool {
        let of = |ends: &[usize], token: usize| ends.iter().filter(|&&end| end <= token).count();
        let sequence = of(&self.queries, i);
        if of(&self.keys, j) != sequence {
            return false;
        }
        let (query, key) = (i - self.queries[sequence - 1], j - self.keys[sequence - 1]);
        let length = |ends: &[usize]| ends[sequence] - ends[sequence - 1];
        match causal {
            None => true,
            Some(CausalAlignment::TopLeft) => key <= query,
            Some(CausalAlignment::BottomRight) => {
                key + length(&self.queries) <= query + length(&self.keys)
            }
        }
    }
}

/// Some without queries, some without keys.
fn some_empty() -> Ends {
    let lengths = [(3, 40), (0, 7), (87, 103), (1, 0), (79, 50)];
    Ends::of(&lengths).expect("there are tokens")
}

/// As packed attention takes it.
pub fn packed(tensor: Tensor<4>) -> Tensor<3> {
    tensor.swap_dims(1, 2).squeeze_dim::<3>(0)
}

/// As attention gives it.
pub fn unpacked(
    attended: Result<(Tensor<3>, Tensor<2>), AttentionError>,
) -> (Tensor<4>, Tensor<3>) {
    let (out, lse) = attended.expect("the sequences fit");
    (
        out.unsqueeze_dim::<4>(0).swap_dims(1, 2),
        lse.unsqueeze_dim::<3>(0),
    )
}

fn failures(
    causal: Option<CausalAlignment>,
    dtype: DType,
    visible: fn([usize; 4]) -> bool,
    options: fn(&Device) -> AttentionOptions,
) -> Vec<String> {
    const SIZES: Sizes = [1, 4, 2, 170, 200, 32, 16];
    let name = format!("{causal:?} {dtype}");
    let mut case = Case::of(&Entry::new(name.clone(), SIZES));
    let ends = some_empty();
    show(&mut case, |at| {
        ends.sees(causal, at[2], at[3]) && visible(at)
    });
    let case = case.rounded_to(dtype);
    let expected = case.expected().expect("the oracle accepts the case");
    let unfused = case.unfused(dtype, &Device::flex()).expect("it fits");
    out_of_bounds(&name, dtype, &expected, &unfused, |device| {
        let device = device.clone().autodiff();
        let sequences = ends.sequences(causal, &device);
        let options = options(&device);
        outputs(&case, dtype, &device, &[], |inputs| {
            let [query, key, value] = inputs.map(packed);
            unpacked(try_attention_packed(query, key, value, &sequences, options))
        })
    })
}

fn all(_: [usize; 4]) -> bool {
    true
}

#[test]
fn packed_sequences_see_themselves_only_forward_and_backward() {
    use CausalAlignment::{BottomRight, TopLeft};
    let plain = |_: &Device| AttentionOptions::default();
    let mut failed = failures(None, DType::F32, all, plain);
    failed.extend(failures(Some(BottomRight), DType::F32, all, plain));
    failed.extend(failures(Some(TopLeft), DType::F32, all, plain));
    failed.extend(failures(Some(BottomRight), DType::F16, all, plain));
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn packed_sequences_combine_with_a_mask_of_the_caller() {
    let failed = failures(
        Some(CausalAlignment::BottomRight),
        DType::F32,
        |[_, _, _, j]| j % 2 == 0,
        |_| AttentionOptions::default().with_mask_mod(variants::fixed_summary(2, 1).not()),
    );
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn packed_sequences_keep_the_same_bits() {
    for kind in devices() {
        let device = kind.open().expect("the device was found").autodiff();
        let ends = [0, 3, 3, 90, 91, 170];
        let sequences = PackedSequences::new(&ends, &ends, None, &device);
        let case = Case::of(&Entry::new("bits", [1, 2, 2, 170, 170, 16, 16]));
        let case = case.rounded_to(DType::F32);
        let slopes = floats(&[0.5, 0.25], &device);
        let run = || {
            let options = AttentionOptions::default()
                .with_score_mod(variants::alibi(slopes.clone(), 0))
                .with_dropout(0.1, 7)
                .expect("it is a probability");
            outputs(&case, DType::F32, &device, &[], |inputs| {
                let [query, key, value] = inputs.map(packed);
                unpacked(try_attention_packed(query, key, value, &sequences, options))
            })
        };
        let first = run();
        for _ in 0..10 {
            assert_eq!(run(), first, "{kind}");
        }
    }
}

#[test]
fn lists_of_ends_that_spell_no_sequences_are_refused() {
    let refusal =
        |q: &[usize], kv: &[usize]| match PackedSequences::try_new(q, kv, None, &Device::flex()) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it was accepted"),
        };
    assert_eq!(
        refusal(&[], &[0, 1]),
        "`cu_seqlens_q` is an empty list; accepted: 0, and the end of each sequence"
    );
    assert_eq!(
        refusal(&[1, 5], &[0, 5]),
        "`cu_seqlens_q` is 1 at index 0; accepted: a list that begins at 0"
    );
    assert_eq!(
        refusal(&[0, 5], &[0, 5, 3]),
        "`cu_seqlens_kv` is 3 after 5 at index 2; accepted: a list that does not decrease"
    );
    assert_eq!(
        refusal(&[0, 0], &[0, 3]),
        "`cu_seqlens_q` is a list that ends at 0; accepted: from 1 to 2147483647 tokens"
    );
    assert_eq!(
        refusal(&[0, 5, 9], &[0, 9]),
        "`cu_seqlens_kv` is a list of 1 sequences; accepted: 2, as cu_seqlens_q"
    );
}

#[test]
fn packed_attention_refuses_causality_over_all_tokens_and_ends_past_the_tensors() {
    let sequences = PackedSequences::new(&[0, 5, 9], &[0, 5, 9], None, &Device::flex());
    let refusal = |tokens: usize, options: AttentionOptions| {
        let x = Tensor::<3>::ones([tokens, 2, 8], &Device::flex());
        match try_attention_packed(x.clone(), x.clone(), x, &sequences, options) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it was accepted"),
        }
    };
    let causal = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    assert_eq!(
        refusal(9, AttentionOptions::from(causal)),
        "`options.causal` is given; accepted: none: `PackedSequences` takes it"
    );
    assert_eq!(
        refusal(8, AttentionOptions::default()),
        "`query` has shape [8, 2, 8]; accepted: [9, heads, head_dim]: the sequences end at 9"
    );
}
