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
        AttentionOptions, attention_entropy, attention_rows, attention_with_lse,
        composition::unfused_attention, gradient_times_attention, merge, pooled_attention,
        received_attention, top_keys, try_attention_rows, try_gradient_times_attention,
        try_pooled_attention, try_top_keys, with_sinks,
    },
};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use crate::support::{devices, out_of_bounds};

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
fn everything() -> Case {
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

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
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

fn ours(case: &Case, dtype: DType, device: &Device) -> Outputs {
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

fn assert_within_bounds(case: &Case, dtype: DType) {
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

#[test]
fn queries_that_see_no_key_give_maps_of_0() {
    // Bottom right with more queries than keys: the first 22 see none.
    let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    let entry = Entry::new("no key", [1, 2, 2, 41, 19, 16, 16]).with_spec(spec);
    let case = Case::of(&entry);
    assert_within_bounds(&case, DType::F32);
    for kind in devices() {
        let outputs = ours(
            &case,
            DType::F32,
            &kind.open().expect("the device was found"),
        );
        let first = |name: &str, length: usize| {
            let (_, values) = outputs
                .iter()
                .find(|(other, _)| *other == name)
                .expect(name);
            values[..length].to_vec()
        };
        assert_eq!(first("all rows", 22 * 19), [0.0; 22 * 19], "{kind}");
        assert_eq!(first("entropy", 22), [0.0; 22], "{kind}");
        assert_eq!(first("top probabilities", 22 * 6), [0.0; 22 * 6], "{kind}");
    }
}

#[test]
fn equal_keys_are_listed_by_position_and_hidden_ones_last() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let x = Tensor::<4>::zeros([1, 1, 7, 8], &device);
        let options = AttentionOptions::default().with_causal(CausalAlignment::TopLeft);
        let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let (_, keys) = top_keys(x.clone(), x, lse, 5, options);
        let keys: Vec<i64> = keys.into_data().iter::<i64>().collect();
        assert_eq!(keys, [0, 1, 2, 3, 4].repeat(7), "{kind}");
    }
}

#[test]
fn a_list_of_every_key_is_the_sorted_row() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let query = Tensor::<4>::ones([1, 1, 1, 1], &device);
        let scores: Vec<f32> = (0..97).map(|n| (n * 37 % 97) as f32 / 10.0).collect();
        let key = Tensor::from_data(TensorData::new(scores.clone(), [1, 1, 97, 1]), &device);
        let options = AttentionOptions::default();
        let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
        let (_, keys) = top_keys(query, key, lse, 97, options);
        let keys = keys.into_data();
        let listed = keys.iter::<i64>().map(|key| scores[key as usize]);
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(listed.collect::<Vec<_>>(), sorted, "{kind}");
    }
}

#[test]
fn maps_keep_the_same_bits() {
    let case = everything().rounded_to(DType::F32);
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let first = ours(&case, DType::F32, &device);
        for _ in 0..5 {
            assert_eq!(ours(&case, DType::F32, &device), first, "{kind}");
        }
    }
}

#[test]
fn maps_of_views_are_those_of_the_tensors() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let random =
            |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (query, key) = (random([2, 19, 3, 16]), random([2, 23, 3, 16]));
        let maps = |query: Tensor<4>, key: Tensor<4>| {
            let options = AttentionOptions::default();
            let (_, lse) =
                attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
            let rows = attention_rows(
                query.clone(),
                key.clone(),
                lse.clone(),
                &[3, 1],
                options.clone(),
            );
            let entropy =
                attention_entropy(query.clone(), key.clone(), lse.clone(), options.clone());
            let (top, _) = top_keys(query.clone(), key.clone(), lse.clone(), 3, options.clone());
            let gradient = gradient_times_attention(
                query.clone(),
                key.clone(),
                key,
                lse,
                query,
                &[2],
                options,
            );
            [read(rows), read(entropy), read(top), read(gradient)]
        };
        let view = |tensor: &Tensor<4>| tensor.clone().swap_dims(1, 2);
        let copy = |tensor: &Tensor<4>| {
            let view = view(tensor);
            Tensor::from_data(view.into_data(), &device)
        };
        assert_eq!(
            maps(view(&query), view(&key)),
            maps(copy(&query), copy(&key)),
            "{kind}"
        );
    }
}

#[test]
fn without_queries_nothing_is_received_and_without_keys_nothing_is_spread() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let some = Tensor::<4>::ones([1, 2, 3, 8], &device);
        let none = Tensor::<4>::empty([1, 2, 0, 8], &device);
        let options = AttentionOptions::default;
        let lse = |query: &Tensor<4>, key: &Tensor<4>| {
            attention_with_lse(query.clone(), key.clone(), key.clone(), options()).1
        };
        let received = received_attention(none.clone(), some.clone(), lse(&none, &some), options());
        assert_eq!(read(received), [0.0; 6], "{kind}");
        let entropy = attention_entropy(some.clone(), none.clone(), lse(&some, &none), options());
        assert_eq!(read(entropy), [0.0; 6], "{kind}");
        let rows = attention_rows(
            some.clone(),
            none.clone(),
            lse(&some, &none),
            &[1],
            options(),
        );
        assert_eq!(rows.dims(), [1, 2, 1, 0], "{kind}");
        let rows = attention_rows(
            some.clone(),
            some.clone(),
            lse(&some, &some),
            &[],
            options(),
        );
        assert_eq!(rows.dims(), [1, 2, 0, 3], "{kind}");
    }
}

#[test]
fn maps_of_tracked_tensors_are_untracked() {
    for kind in devices() {
        let device = kind.open().expect("the device was found").autodiff();
        let x = Tensor::<4>::ones([1, 1, 4, 8], &device).require_grad();
        let options = AttentionOptions::default();
        let (out, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let entropy = attention_entropy(x.clone(), x.clone(), lse.clone(), options.clone());
        assert!(!entropy.is_autodiff(), "{kind}");
        // What they stand beside still passes its gradient on.
        let gradients = (out.sum() + lse.sum()).backward();
        assert!(x.grad(&gradients).is_some(), "{kind}");
        let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let received = received_attention(x.clone(), x, lse, options);
        assert!((read(received)[0] - 1.0).abs() < 1e-6, "{kind}");
    }
}

#[test]
fn with_the_log_sum_exp_of_a_sink_the_rest_is_what_the_sink_took() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let x = Tensor::<4>::zeros([1, 1, 1, 4], &device);
        let options = AttentionOptions::default();
        let attended = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let (_, lse) = with_sinks(attended.clone(), Tensor::zeros([1], &device));
        let share = attention_rows(x.clone(), x.clone(), lse, &[0], options.clone());
        assert!((read(share)[0] - 0.5).abs() < 1e-6, "{kind}");
        let (_, lse) = merge(attended.clone(), attended);
        let share = attention_rows(x.clone(), x, lse, &[0], options);
        assert!((read(share)[0] - 0.5).abs() < 1e-6, "{kind}");
    }
}

/// What every device says of a bad request, the same for all.
fn refusal<T>(
    ask: impl Fn(Tensor<4>, Tensor<3>) -> Result<T, attention_core::AttentionError>,
) -> String {
    let mut messages: Vec<_> = devices()
        .into_iter()
        .map(|kind| {
            let device = kind.open().expect("the device was found");
            let x = Tensor::<4>::zeros([1, 2, 5, 8], &device);
            match ask(x, Tensor::zeros([1, 2, 5], &device)) {
                Ok(_) => panic!("{kind} accepted it"),
                Err(error) => error.to_string(),
            }
        })
        .collect();
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn rows_beyond_the_last_query_are_refused() {
    let message = refusal(|x, lse| {
        try_attention_rows(x.clone(), x, lse, &[4, 5], AttentionOptions::default())
    });
    assert_eq!(
        message,
        "`rows` is 5; accepted: positions below 5, the number of queries"
    );
}

#[test]
fn no_key_and_more_keys_than_there_are_are_refused() {
    for (k, accepted) in [(0, "`k` is 0"), (6, "`k` is 6")] {
        let message =
            refusal(|x, lse| try_top_keys(x.clone(), x, lse, k, AttentionOptions::default()));
        assert_eq!(
            message,
            format!("{accepted}; accepted: 1 to 5, the number of keys")
        );
    }
}

#[test]
fn grids_without_cells_or_with_empty_ones_are_refused() {
    for grid in [[0, 1], [1, 6]] {
        let message = refusal(|x, lse| {
            try_pooled_attention(x.clone(), x, lse, grid, AttentionOptions::default())
        });
        let accepted = "[1, 1] to [5, 5], the numbers of queries and keys";
        assert_eq!(message, format!("`grid` is {grid:?}; accepted: {accepted}"));
    }
}

#[test]
fn a_log_sum_exp_of_other_rows_is_refused() {
    let message = refusal(|x, lse| {
        let lse = lse.slice_dim(2, 0..4);
        try_attention_rows(x.clone(), x, lse, &[0], AttentionOptions::default())
    });
    assert_eq!(message, "`lse` has shape [1, 2, 4]; accepted: [1, 2, 5]");
}

#[test]
fn a_gradient_of_another_shape_than_the_output_is_refused() {
    let message = refusal(|x, lse| {
        let grad_out = x.clone().slice_dim(3, 0..7);
        let options = AttentionOptions::default();
        try_gradient_times_attention(x.clone(), x.clone(), x, lse, grad_out, &[0], options)
    });
    assert_eq!(
        message,
        "`grad_out` has shape [1, 2, 5, 7]; accepted: [1, 2, 5, 8]"
    );
}
