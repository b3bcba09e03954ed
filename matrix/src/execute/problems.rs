//! The problems that are executed: small, and every option of the matrix engine among them.

use attention_core::{AttentionSpec, CausalAlignment, DType};
use attention_kernels::{
    block_map::BlockShape,
    catalog::{self, Entry, Sizes},
    modification::Mask,
    softmax::Engine,
    variants,
};

use super::problem::{Code, Problem};

/// Problems for matrix instructions.
pub fn matrix() -> Vec<Problem> {
    let mut problems = dims(&[DType::F16, DType::BF16]);
    problems.extend(options(&[DType::F16, DType::BF16]));
    problems.extend(codes(DType::F16));
    problems
}

/// Problems in f32, for cards whose matrix instructions multiply it in terms.
pub fn in_terms() -> Vec<Problem> {
    let mut problems = dims(&[DType::F32]);
    problems.extend(options(&[DType::F32]));
    problems.extend(codes(DType::F32));
    let mut new = |name: &str, sizes: Sizes| {
        problems.push(Problem::new(&Entry::new(name, sizes), DType::F32));
    };
    new("sums/keys", [1, 1, 1, 23, 4099, 32, 32]);
    new("sums/queries", [1, 1, 1, 4099, 23, 32, 32]);
    // So long that sums are set aside: once, and several times.
    new("sums/set-aside", [1, 2, 1, 17, 4603, 64, 32]);
    new("sums/many-keys", [1, 1, 1, 23, 16411, 32, 32]);
    new("sums/many-queries", [1, 1, 1, 16411, 23, 32, 32]);
    // A walk of two key heads: the sums of the first are set aside, and written, before those of the second.
    let values = Entry::new("sums/value-heads", [1, 2, 2, 4300, 17, 32, 32]).with_value_heads(1);
    problems.push(Problem::new(&values, DType::F32));
    // Scores in the hundreds, where all but one weight vanish.
    let large = Entry::new("scores/large", [1, 2, 2, 41, 67, 64, 64]);
    // And in the thousands, where a row's weight is 1 and the two products of its gradient have to cancel.
    let larger = Entry {
        name: "scores/thousands".into(),
        ..large.clone()
    };
    let larger_short = Entry::new("scores/thousands-short", [1, 1, 1, 16, 16, 16, 16]);
    for (entry, scale) in [(large, 5.0), (larger, 200.0), (larger_short, 400.0)] {
        let spec = AttentionSpec::default().with_scale(scale);
        problems.push(Problem::new(&entry.with_spec(spec), DType::F32));
    }
    problems
}

/// The catalog by the register engine, and so few queries that lanes share them.
pub fn register() -> Vec<Problem> {
    let few = |name: &str, sizes: Sizes| Entry::new(format!("softmax/few-{name}"), sizes);
    let spec = AttentionSpec::default()
        .with_causal(CausalAlignment::BottomRight)
        .with_scale(0.2)
        .with_softcap(2.0);
    let few = [
        few("one", [1, 8, 2, 1, 1500, 128, 128]),
        few("one-odd", [2, 3, 3, 1, 777, 111, 33]),
        few("keys", [1, 2, 2, 3, 21, 64, 64]),
        few("half", [1, 2, 1, 29, 1031, 64, 80]),
        few("everything", [2, 6, 2, 9, 771, 64, 64])
            .with_spec(spec)
            .with_mask([2, 1, 9, 771])
            .with_bias([1, 6, 9, 771]),
    ];
    let problems = catalog::softmax().into_iter().chain(few).map(|entry| {
        let name = entry.name.replace("softmax/", "register/");
        let problem = Problem::new(&Entry { name, ..entry }, DType::F32);
        Problem {
            engine: Engine::Register,
            ..problem
        }
    });
    problems.collect()
}

/// Plain attention of every padding and tiling, on lengths that fill no tile; what is not about dimensions in
/// the first of the types.
fn dims(dtypes: &[DType]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for dim in [32, 64, 80, 96, 111, 128, 256] {
        for &dtype in dtypes {
            let entry = Entry::new(format!("dim/{dim}"), [1, 2, 2, 71, 101, dim, dim]);
            problems.push(Problem::new(&entry, dtype));
        }
    }
    let mut new = |name: &str, sizes: Sizes| {
        problems.push(Problem::new(&Entry::new(name, sizes), dtypes[0]));
    };
    // Keys and values that do not lie alike.
    new("dim/64-value-128", [1, 2, 1, 71, 101, 64, 128]);
    new("dim/40-value-72", [1, 2, 1, 37, 53, 40, 72]);
    new("dim/96-value-16", [1, 2, 1, 37, 53, 96, 16]);
    new("dim/8", [1, 1, 1, 19, 23, 8, 8]);
    new("dim/1", [1, 1, 1, 19, 23, 1, 1]);
    new("length/1", [1, 2, 2, 1, 1, 64, 64]);
    new("length/1-query", [2, 4, 4, 1, 131, 64, 64]);
    new("length/1-key", [1, 2, 2, 131, 1, 64, 64]);
    new("length/no-keys", [1, 2, 2, 5, 0, 64, 64]);
    new("length/tiles", [1, 1, 1, 128, 128, 64, 64]);
    // As many cubes as an A100 has multiprocessors: two row tiles for each plane.
    new("crowded/64", [1, 108, 108, 67, 37, 64, 64]);
    new("crowded/32", [2, 54, 27, 131, 70, 32, 32]);
    new("crowded/48", [1, 108, 108, 67, 17, 48, 48]);
    // So few rows that cubes share them, and one query for which heads are rows.
    new("parts/64", [1, 1, 1, 29, 1031, 64, 64]);
    new("parts/128", [1, 2, 2, 37, 1100, 128, 128]);
    new("parts/one-query", [1, 8, 2, 1, 1500, 128, 128]);
    new("parts/one-query-256", [1, 2, 2, 1, 777, 256, 256]);
    problems
}

/// The scalar options, masks and biases, alone in the first of the types and all at once in each.
fn options(dtypes: &[DType]) -> Vec<Problem> {
    use CausalAlignment::{BottomRight, TopLeft};
    const SIZES: Sizes = [2, 4, 2, 71, 101, 64, 64];
    const TALL: Sizes = [1, 2, 1, 101, 71, 64, 64];
    let new = |name: &str, sizes| Entry::new(name, sizes);
    let spec = AttentionSpec::default;
    let everything = spec()
        .with_causal(BottomRight)
        .with_scale(0.2)
        .with_softcap(2.0);
    let new_problem = |entry: &Entry| Problem::new(entry, dtypes[0]);
    let entries = [
        new("causal/bottom-right", SIZES).with_spec(spec().with_causal(BottomRight)),
        new("causal/top-left", SIZES).with_spec(spec().with_causal(TopLeft)),
        new("causal/bottom-right-tall", TALL).with_spec(spec().with_causal(BottomRight)),
        new("causal/top-left-tall", TALL).with_spec(spec().with_causal(TopLeft)),
        new("heads/one-kv", [1, 6, 1, 19, 19, 32, 32]),
        new("heads/values", [2, 4, 4, 37, 53, 40, 64]).with_value_heads(2),
        new("heads/one-value", [1, 4, 4, 21, 35, 32, 16]).with_value_heads(1),
        new("scale/large", SIZES).with_spec(spec().with_scale(3.0)),
        new("scale/negative", SIZES).with_spec(spec().with_scale(-0.3)),
        new("scale/tiny", SIZES).with_spec(spec().with_scale(1e-9)),
        new("softcap", SIZES).with_spec(spec().with_softcap(1.5)),
        new("mask/padding", SIZES).with_mask([2, 1, 1, 101]),
        new("mask/full", SIZES).with_mask([2, 4, 71, 101]),
        new("bias/per-head", SIZES).with_bias([1, 4, 71, 101]),
        new("bias/per-key", SIZES).with_bias([2, 1, 1, 101]),
        new("one-query/first-key", [1, 4, 2, 1, 67, 32, 32]).with_spec(spec().with_causal(TopLeft)),
        new("parts/unseen", [1, 1, 1, 31, 800, 32, 32]).with_spec(spec().with_causal(TopLeft)),
        new("parts/everything", [1, 1, 1, 23, 771, 32, 40])
            .with_spec(everything)
            .with_mask([1, 1, 23, 771])
            .with_bias([1, 1, 23, 771]),
        new("one-query/everything", [2, 6, 2, 1, 771, 64, 64])
            .with_spec(everything)
            .with_mask([2, 1, 1, 771])
            .with_bias([1, 6, 1, 771]),
    ];
    let mut problems: Vec<Problem> = entries.iter().map(new_problem).collect();
    let all = new("everything", SIZES)
        .with_spec(everything)
        .with_mask([2, 1, 71, 101])
        .with_bias([1, 4, 71, 101]);
    for &dtype in dtypes {
        problems.push(Problem::new(&all, dtype).without_keys_for(3));
    }
    let values = new("everything/value-heads", [2, 8, 4, 37, 53, 32, 64])
        .with_value_heads(2)
        .with_spec(everything)
        .with_mask([2, 1, 37, 53])
        .with_bias([1, 8, 37, 53]);
    problems.push(new_problem(&values).with_grad_lse());
    let empty = new("mask/empty-row", SIZES).with_mask([1, 1, 71, 101]);
    problems.push(new_problem(&empty).without_keys_for(20).with_grad_lse());
    for dim in [64, 128, 256] {
        let causal = new(&format!("causal/dim-{dim}"), [1, 2, 2, 197, 197, dim, dim]);
        problems.push(new_problem(
            &causal.with_spec(spec().with_causal(BottomRight)),
        ));
    }
    let strided = new("layout/interleaved", SIZES);
    problems.push(Problem {
        interleaved: true,
        ..new_problem(&strided)
    });
    problems.push(new_problem(&new("grad-lse", SIZES)).with_grad_lse());
    problems
}

/// Score modifications, masks and factors as code; block maps.
fn codes(dtype: DType) -> Vec<Problem> {
    const SIZES: Sizes = [2, 2, 1, 197, 211, 64, 64];
    let new = |name: &str, code| {
        let entry = Entry::new(format!("code/{name}"), SIZES);
        Problem::new(&entry, dtype).with_code(code)
    };
    let [batch, heads, _, seq_q, seq_kv, ..] = SIZES;
    let slopes = variants::alibi_slopes(heads);
    let alibi = Code {
        score: Some(|problem, score, [_, head, i, j]| {
            let slope = f64::from(problem.code.captured.tables[0][head]);
            (score - slope * i.abs_diff(j) as f64, 1.0)
        }),
        ..Code::new(Some(variants::alibi(slopes, 0)), None, None)
    };
    let softcap = Code {
        score: Some(|_, score, _| {
            let bent = (score / 3.0).tanh();
            (3.0 * bent, 1.0 - bent * bent)
        }),
        ..Code::new(Some(variants::softcap(3.0)), None, None)
    };
    let window = Code {
        visible: Some(|_, [_, _, i, j]| j <= i + 5 && i <= j + 40),
        ..Code::new(None, Some(variants::sliding_window(40, 5, 0)), None)
    };
    let blocks = BlockShape::new(seq_q, seq_kv);
    let mapped = Code {
        blocks: Some(blocks),
        ..window.clone()
    };
    let documents = |length: usize| (0..length).map(|token| (token / 70) as i32).collect();
    let packed: Mask<Vec<f32>, Vec<i32>> =
        variants::same_document(documents(seq_q), documents(seq_kv));
    let packed = Code {
        visible: Some(|_, [_, _, i, j]| i / 70 == j / 70),
        blocks: Some(blocks),
        ..Code::new(None, Some(packed), None)
    };
    let keep = (0..batch * heads * seq_q * seq_kv).map(|n| i32::from(n * 2_654_435_761 % 10 > 2));
    let shape = [batch, heads, seq_q, seq_kv].map(|size| size as u32);
    let mut problems = vec![
        new("alibi", alibi),
        new("softcap", softcap),
        new("window", window),
        new("window-mapped", mapped),
        new("documents-mapped", packed),
    ];
    // Parts of the keys with full blocks, with blocks at the mask's edge, and without any.
    let wide = Code {
        visible: Some(|_, [_, _, i, j]| j <= i + 600),
        blocks: Some(BlockShape::new(23, 1500)),
        ..Code::new(None, Some(variants::sliding_window(40, 600, 0)), None)
    };
    let few = Entry::new("code/window-mapped-parts", [1, 1, 1, 23, 1500, 64, 64]);
    problems.push(Problem::new(&few, dtype).with_code(wide));
    if let Ok(dropout) = variants::given_dropout(0.3, keep.collect(), shape) {
        let dropout = Code {
            weight: Some(|problem, [b, h, i, j]| {
                let [_, heads, seq_q, _] = problem.inputs.query.shape;
                let seq_kv = problem.inputs.key.shape[2];
                let at = ((b * heads + h) * seq_q + i) * seq_kv + j;
                f64::from(problem.code.captured.integers[0][at]) / 0.7
            }),
            ..Code::new(None, None, Some(dropout))
        };
        problems.push(new("dropout", dropout));
    }
    problems
}
