//! Attention maps out of the fused kernels against those of the oracle's whole matrix.

use attention_core::{
    AttentionSpec, CausalAlignment, DType,
    oracle::{self, Mask4, Tensor4},
};
use attention_kernels::{catalog::Entry, variants};
use attention_models::{
    cli::verify::{
        burn_dtype,
        case::{Case, Outputs},
        upload, upload_mask,
    },
    ops::{
        AttentionOptions, attention_entropy, attention_rows, composition::unfused_attention,
        gradient_times_attention, pooled_attention, received_attention, top_keys,
    },
};
use burn::tensor::{Device, Int, Tensor};

use crate::support::out_of_bounds;

/// Which rows, which grids and how many keys a case is asked for.
struct Asked {
    all: Vec<usize>,
    rows: Vec<usize>,
    grids: [[usize; 2]; 2],
    k: usize,
}

impl Asked {
    fn of(case: &Case) -> Self {
        let (seq_q, seq_kv) = (case.inputs.query.shape[2], case.inputs.key.shape[2]);
        let within = |position: usize| position.min(seq_q - 1);
        Self {
            all: (0..seq_q).collect(),
            rows: [seq_q - 1, within(5), within(6), 0, within(5)].to_vec(),
            grids: [[3.min(seq_q), 5.min(seq_kv)], [seq_q, seq_kv.div_ceil(2)]],
            k: 6.min(seq_kv),
        }
    }
}

/// Every option as a tensor or a number.
pub fn everything() -> Case {
    let spec = AttentionSpec::default()
        .with_causal(CausalAlignment::BottomRight)
        .with_scale(0.3)
        .with_softcap(2.0);
    let entry = Entry::new("everything", [2, 4, 2, 37, 53, 32, 24])
        .with_spec(spec)
        .with_mask([2, 1, 37, 53])
        .with_bias([1, 4, 37, 53]);
    Case::of(&entry)
}

/// A window, ALiBi and a softcap as code.
fn code() -> Case {
    const SHAPE: [usize; 4] = [2, 2, 37, 41];
    let [_, heads, rows, keys] = SHAPE;
    let mut case = Case::of(&Entry::new("code", [2, heads, 1, rows, keys, 16, 8]));
    let slopes = variants::alibi_slopes(heads);
    let places = || {
        (0..SHAPE.iter().product()).map(|n| (n / keys / rows % heads, n / keys % rows, n % keys))
    };
    let hidden = |(_, i, j): (usize, usize, usize)| !(j + 9 >= i + 2 && j <= i + 2 + 3);
    let term = |(h, i, j): (usize, usize, usize)| -f64::from(slopes[h]) * i.abs_diff(j) as f64;
    case.inputs.mask = Some(Mask4::new(SHAPE, places().map(hidden).collect()));
    case.inputs.bias = Some(Tensor4::new(SHAPE, places().map(term).collect()));
    case.spec = case.spec.with_softcap(2.0);
    case.with_code(move |device| {
        let slopes = Tensor::from_data(slopes.as_slice(), device);
        AttentionOptions::default()
            .with_score_mod(variants::softcap(2.0).then(variants::alibi(slopes, 0)))
            .with_mask_mod(variants::sliding_window(9, 3, 2))
    })
}

fn options(case: &Case, dtype: DType, device: &Device) -> AttentionOptions {
    let inputs = &case.inputs;
    match &case.code {
        Some(code) => (code.0)(device),
        None => AttentionOptions {
            spec: case.spec,
            mask: inputs.mask.as_ref().map(|mask| upload_mask(mask, device)),
            bias: inputs.bias.as_ref().map(|bias| upload(bias, dtype, device)),
            ..AttentionOptions::default()
        },
    }
}

/// The values of a tensor.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The log-sum-exp that maps are given, in `f32` as every other input is in its dtype, and the
/// probabilities `exp(S - LSE)` that belong to it.
fn given(case: &Case) -> (Vec<f64>, Tensor4) {
    let forward = oracle::forward(&case.inputs, &case.spec).expect("the oracle accepts the case");
    let mut p = oracle::probabilities(&case.inputs, &case.spec).expect("it accepted the case");
    let given: Vec<_> = forward
        .lse
        .iter()
        .map(|&lse| f64::from(lse as f32))
        .collect();
    let rows = p.data.chunks_mut(p.shape[3]);
    for (row, (given, lse)) in rows.zip(given.iter().zip(&forward.lse)) {
        let factor = if lse.is_finite() {
            (lse - given).exp()
        } else {
            0.0
        };
        row.iter_mut().for_each(|p| *p *= factor);
    }
    (given, p)
}

fn expected(case: &Case) -> Outputs {
    let asked = Asked::of(case);
    let (_, p) = given(case);
    let gradient = oracle::gradient_times_attention(&p, &case.inputs, &case.grad_out, &asked.rows);
    let (top, _) = oracle::top_keys(&p, asked.k);
    vec![
        ("rows", oracle::chosen_rows(&p, &asked.rows).data),
        ("all rows", p.data.clone()),
        ("received", oracle::received(&p)),
        ("pooled", oracle::pooled(&p, asked.grids[0])),
        ("pooled finely", oracle::pooled(&p, asked.grids[1])),
        ("entropy", oracle::entropy(&p)),
        ("top probabilities", top.clone()),
        ("of top keys", top),
        ("gradient", gradient.data),
    ]
}

/// The same from the whole matrix, by Burn's operations on flex.
fn unfused(case: &Case, dtype: DType) -> Outputs {
    let device = Device::flex();
    let asked = Asked::of(case);
    let on_device = |tensor: &Tensor4| upload(tensor, dtype, &device);
    let [query, key, value] =
        [&case.inputs.query, &case.inputs.key, &case.inputs.value].map(on_device);
    let [batch, kv_heads, keys, value_dim] = value.dims();
    let [_, heads, rows, _] = query.dims();
    let eye = Tensor::<2>::eye(keys, &device).cast(burn_dtype(dtype));
    let eye = eye.unsqueeze::<4>().expand([batch, kv_heads, keys, keys]);
    let without_code = Case {
        code: None,
        ..case.clone()
    };
    let options = options(&without_code, dtype, &device);
    let (p, _) = unfused_attention(query, key, eye, options).expect("Burn accepts the case");

    let positions: Vec<i32> = asked.rows.iter().map(|&row| row as i32).collect();
    let positions = Tensor::<1, Int>::from_data(positions.as_slice(), &device);
    let chosen = |tensor: Tensor<4>| tensor.select(2, positions.clone());
    let pooled = |grid: [usize; 2]| {
        let mean = p.clone().mean_dim(1);
        let mean = by_cell(mean, 2, grid[0], |cell| cell.mean_dim(2));
        by_cell(mean, 3, grid[1], |cell| cell.sum_dim(3))
    };
    let none = p.clone().equal_elem(0.0);
    let terms = (p.clone() * p.clone().log()).mask_fill(none, 0.0);
    let top = read(p.clone().sort_descending(3).slice_dim(3, 0..asked.k));
    let grad_out = upload(&case.grad_out, dtype, &device);
    let group = heads / kv_heads;
    let slopes = grad_out
        .reshape([batch, kv_heads, group * rows, value_dim])
        .matmul(value.swap_dims(2, 3))
        .reshape([batch, heads, rows, keys]);
    vec![
        ("rows", read(chosen(p.clone()))),
        ("all rows", read(p.clone())),
        ("received", read(p.clone().sum_dim(2))),
        ("pooled", read(pooled(asked.grids[0]))),
        ("pooled finely", read(pooled(asked.grids[1]))),
        ("entropy", read(terms.sum_dim(3).neg())),
        ("top probabilities", top.clone()),
        ("of top keys", top),
        ("gradient", read(chosen(p * slopes))),
    ]
}

/// Splits an axis into cells, the first of which are longer, and joins what `pool` makes of each.
fn by_cell(
    map: Tensor<4>,
    axis: usize,
    cells: usize,
    pool: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    let length = map.dims()[axis];
    let start = |cell: usize| cell * (length / cells) + cell.min(length % cells);
    let pooled = (0..cells).map(|cell| {
        let positions = start(cell)..start(cell + 1);
        pool(map.clone().slice_dim(axis, positions))
    });
    Tensor::cat(pooled.collect(), axis)
}

/// Every map by our kernels.
pub fn ours(case: &Case, dtype: DType, device: &Device) -> Outputs {
    let asked = Asked::of(case);
    let on_device = |tensor: &Tensor4| upload(tensor, dtype, device);
    let [query, key, value] =
        [&case.inputs.query, &case.inputs.key, &case.inputs.value].map(on_device);
    let options = options(case, dtype, device);
    let (lse, _) = given(case);
    let [batch, heads, rows, _] = case.inputs.query.shape;
    let lse = Tensor4::new([batch, heads, rows, 1], lse);
    let lse = upload(&lse, DType::F32, device).squeeze_dim::<3>(3);
    let inputs = || (query.clone(), key.clone(), lse.clone());
    let rows = |rows: &[usize]| {
        let (query, key, lse) = inputs();
        read(attention_rows(query, key, lse, rows, options.clone()))
    };
    let pooled = |grid| {
        let (query, key, lse) = inputs();
        read(pooled_attention(query, key, lse, grid, options.clone()))
    };
    let received = received_attention(query.clone(), key.clone(), lse.clone(), options.clone());
    let entropy = attention_entropy(query.clone(), key.clone(), lse.clone(), options.clone());
    let (top, keys) = top_keys(
        query.clone(),
        key.clone(),
        lse.clone(),
        asked.k,
        options.clone(),
    );
    let gradient = gradient_times_attention(
        query.clone(),
        key.clone(),
        value,
        lse.clone(),
        on_device(&case.grad_out),
        &asked.rows,
        options.clone(),
    );
    vec![
        ("rows", rows(&asked.rows)),
        ("all rows", rows(&asked.all)),
        ("received", read(received)),
        ("pooled", pooled(asked.grids[0])),
        ("pooled finely", pooled(asked.grids[1])),
        ("entropy", read(entropy)),
        ("top probabilities", read(top)),
        ("of top keys", true_probabilities(case, keys)),
        ("gradient", read(gradient)),
    ]
}

/// The oracle's probabilities of listed keys. Keys must differ: rounding may swap neighbours in a
/// list, but none may be there twice.
fn true_probabilities(case: &Case, keys: Tensor<4, Int>) -> Vec<f64> {
    let (_, p) = given(case);
    let [_, _, _, k] = keys.dims();
    let keys: Vec<usize> = keys
        .into_data()
        .iter::<i64>()
        .map(|key| key as usize)
        .collect();
    let rows = p.data.chunks(p.shape[3]).zip(keys.chunks(k));
    rows.flat_map(|(row, keys)| {
        let mut distinct = keys.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), k, "{}: {keys:?}", case.name);
        keys.iter().map(|&key| row[key]).collect::<Vec<_>>()
    })
    .collect()
}

/// Holds every map on every device against the oracle.
pub fn assert_within_bounds(case: &Case, dtype: DType) {
    let case = case.rounded_to(dtype);
    let (expected, unfused) = (expected(&case), unfused(&case, dtype));
    let failures = out_of_bounds(&case.name, dtype, &expected, &unfused, |device| {
        ours(&case, dtype, device)
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn maps_of_grouped_heads_agree_with_the_oracle() {
    let entry = Entry::new("grouped heads", [2, 4, 2, 37, 53, 32, 40]);
    assert_within_bounds(&Case::of(&entry), DType::F32);
}

#[test]
fn maps_with_every_option_agree_with_the_oracle() {
    assert_within_bounds(&everything(), DType::F32);
}

#[test]
fn maps_of_half_precision_agree_with_the_oracle() {
    assert_within_bounds(&everything(), DType::F16);
}

#[test]
fn maps_with_code_agree_with_the_oracle() {
    assert_within_bounds(&code(), DType::F32);
}

#[test]
fn maps_of_one_query_agree_with_the_oracle() {
    let entry = Entry::new("one query", [2, 4, 4, 1, 131, 40, 16]);
    assert_within_bounds(&Case::of(&entry), DType::F32);
}
