//! Maps from Burn's own operations, where there is no kernel of ours: they hold the whole matrix of
//! probabilities.

use attention_core::AttentionProblem;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::super::{
    AttentionOptions,
    composition::{grouped_matmul, masked_scores},
};
use super::{
    Map,
    call::{Call, Shown},
};

/// The map of checked arguments.
pub fn show(call: Call, map: &Map, problem: &AttentionProblem) -> Shown {
    let device = call.query.device();
    let shape = map.shape(problem.query_shape(), problem.key_shape());
    if shape.contains(&0) || problem.seq_q == 0 || problem.seq_kv == 0 {
        let keys = matches!(map, Map::TopKeys(_)).then(|| Tensor::zeros(shape, &device));
        return (Tensor::zeros(shape, (&device, DType::F32)), keys);
    }
    let gradient = call.gradient.clone();
    let p = probabilities(call, problem);
    let chosen = |tensor: Tensor<4>, rows: &[usize]| tensor.select(2, positions(rows, &device));
    let values = match map {
        Map::Rows(rows) => chosen(p, rows),
        Map::GradientTimes(rows) => match gradient {
            None => chosen(p, rows),
            Some((value, grad_out)) => {
                let value = value.cast(DType::F32).swap_dims(2, 3);
                let slopes = grouped_matmul(grad_out.cast(DType::F32), value);
                chosen(p * slopes, rows)
            }
        },
        Map::Received => p.sum_dim(2).reshape(shape),
        Map::Pooled([queries, keys]) => {
            let rows = cells(*queries, problem.seq_q, true, &device);
            let columns = cells(*keys, problem.seq_kv, false, &device).transpose();
            let mean = p.mean_dim(1).squeeze_dim::<3>(1);
            let pooled = rows.unsqueeze::<3>().matmul(mean);
            pooled.matmul(columns.unsqueeze::<3>()).unsqueeze::<4>()
        }
        Map::Entropy => {
            let none = p.clone().equal_elem(0.0);
            let terms = p.clone() * p.log();
            terms.mask_fill(none, 0.0).sum_dim(3).neg().reshape(shape)
        }
        Map::TopKeys(k) => {
            let (p, keys) = p.sort_descending_with_indices(3);
            let keys = keys.slice_dim(3, 0..*k).cast(DType::I32);
            return (p.slice_dim(3, 0..*k), Some(keys));
        }
    };
    (values, None)
}

/// `exp(S - LSE)`, in `f32`.
fn probabilities(call: Call, problem: &AttentionProblem) -> Tensor<4> {
    let options = AttentionOptions {
        bias: call.options.bias.map(|bias| bias.cast(DType::F32)),
        ..call.options
    };
    let query = call.query.cast(DType::F32);
    let scores = masked_scores(query, call.key.cast(DType::F32), options, problem);
    // A row without keys: exp(-inf - 0) = 0.
    let none = call.lse.clone().equal_elem(f32::NEG_INFINITY);
    let lse = call.lse.mask_fill(none, 0.0);
    (scores - lse.unsqueeze_dim::<4>(3)).exp()
}

fn positions(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    Tensor::from_data(rows.as_slice(), device)
}

/// Which of `length` positions fall into which cell: `[cells, length]`; each row sums to 1 if it is
/// to `average`.
fn cells(cells: usize, length: usize, average: bool, device: &Device) -> Tensor<2> {
    let start = |cell: usize| cell * (length / cells) + cell.min(length % cells);
    let mut table = vec![0f32; cells * length];
    for (cell, row) in table.chunks_mut(length).enumerate() {
        let members = &mut row[start(cell)..start(cell + 1)];
        let share = if average {
            1.0 / members.len() as f32
        } else {
            1.0
        };
        members.fill(share);
    }
    Tensor::from_data(
        TensorData::new(table, [cells, length]),
        (device, DType::F32),
    )
}
