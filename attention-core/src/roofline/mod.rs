//! How long attention takes at least on a device, from what it multiplies, exponentiates and moves.
//!
//! Each kernel takes as long as the slowest of its parts, which a good kernel overlaps: matrix products, exponentials,
//! the rest of the softmax, memory (Williams et al. 2009, <https://doi.org/10.1145/1498765.1498785>), and, where a
//! compiler's listing of the hot loop is at hand, the issue of its instructions. A pass is its kernels, one after the
//! other.

mod devices;
mod work;

pub use devices::{DEVICES, DeviceRoofs, Issue, Stated};
pub use work::{ROWS_PER_CUBE, Work, backward_work, forward_work};

use crate::DType;

/// What a compiler made of a kernel's hot loop: instructions of a turn, of a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopMix {
    /// All.
    pub instructions: u64,
    /// Those that multiply matrices.
    pub matrix: u64,
}

/// What a kernel waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Matrix instructions.
    Matrix,
    /// The units that compute `exp`.
    Exponentials,
    /// Vector instructions; with the products and exponentials of devices that have no units for them.
    Vector,
    /// Memory.
    Memory,
    /// The issue of instructions.
    Issue,
}

impl Limit {
    /// A word for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Matrix => "matrix",
            Self::Exponentials => "exp",
            Self::Vector => "vector",
            Self::Memory => "memory",
            Self::Issue => "issue",
        }
    }
}

/// Seconds that the parts of one kernel take on a device at their peak rates.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Every part with its time.
    pub parts: Vec<(Limit, f64)>,
    /// The share of the device's cores that have work when the last rows are computed.
    pub fill: f64,
}

impl Prediction {
    /// Seconds that the kernel cannot do without.
    pub fn bound(&self) -> f64 {
        self.parts.iter().map(|(_, time)| *time).fold(0.0, f64::max)
    }

    /// What takes the longest.
    pub fn limit(&self) -> Limit {
        let longest = self.parts.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        longest.map_or(Limit::Memory, |(limit, _)| *limit)
    }

    /// Seconds that the kernel is expected to take: what cores compute takes longer where some are idle, everything
    /// takes as much longer as on this device it is known to, and the launch is added.
    pub fn expected(&self, device: &DeviceRoofs) -> f64 {
        let parts = self.parts.iter().map(|(limit, time)| match limit {
            Limit::Memory => *time,
            _ => time / self.fill,
        });
        parts.fold(0.0, f64::max) / device.reached.value + device.launch.value
    }
}

/// The times of a kernel on a device; `mix` is what that device's compiler made of the kernel, where it is known.
///
/// ```
/// use attention_core::roofline::{DEVICES, Limit, forward_work, predict};
/// use attention_core::{AttentionProblem, AttentionSpec, DType};
///
/// let problem = AttentionProblem {
///     batch: 1,
///     heads: 8,
///     kv_heads: 8,
///     value_heads: 8,
///     seq_q: 4096,
///     seq_kv: 4096,
///     head_dim: 128,
///     value_dim: 128,
/// };
/// let h100 = DEVICES.iter().find(|device| device.name == "H100 SXM").unwrap();
/// let work = forward_work(&problem, &AttentionSpec::default(), DType::F16);
/// let prediction = predict(&work, h100, None);
/// assert_eq!(prediction.limit(), Limit::Matrix);
/// assert!(prediction.bound() < 100e-6);
/// ```
pub fn predict(work: &Work, device: &DeviceRoofs, mix: Option<LoopMix>) -> Prediction {
    let matrix = device.matrix(work.dtype);
    let mut vector = 2.0 * work.vector as f64;
    let mut parts = Vec::new();
    match matrix {
        Some(rate) => parts.push((Limit::Matrix, work.products as f64 / rate.value)),
        None => vector += work.products as f64,
    }
    match device.exponentials {
        Some(rate) => parts.push((Limit::Exponentials, work.exponentials as f64 / rate.value)),
        None => vector += 2.0 * work::VECTOR_PER_EXPONENTIAL * work.exponentials as f64,
    }
    parts.push((Limit::Vector, vector / device.vector.value));
    parts.push((Limit::Memory, work.bytes as f64 / device.bandwidth.value));
    if let (Some(issue), Some(mix), Some(_)) = (device.issue, mix, matrix)
        && mix.matrix > 0
    {
        let products = match work.dtype {
            DType::F32 => devices::F32_PRODUCTS * work.products as f64,
            DType::F16 | DType::BF16 => work.products as f64,
        };
        let multiplications = products / issue.flops_per_instruction;
        let slots = multiplications * mix.instructions as f64 / mix.matrix as f64;
        parts.push((Limit::Issue, slots / issue.slots.value));
    }
    Prediction {
        parts,
        fill: fill(work.cubes, device.cores),
    }
}

/// Of the last wave of cubes, one for each core at a time, how much is there.
fn fill(cubes: u64, cores: u64) -> f64 {
    let waves = cubes.div_ceil(cores).max(1);
    (cubes.max(1) as f64) / (waves * cores) as f64
}

/// The sum over a pass' kernels, and what the longest of them waits for.
pub fn pass(predictions: &[Prediction], device: &DeviceRoofs) -> (f64, f64, Limit) {
    let bound = predictions.iter().map(Prediction::bound).sum();
    let expected = predictions
        .iter()
        .map(|kernel| kernel.expected(device))
        .sum();
    let longest = predictions
        .iter()
        .max_by(|a, b| a.bound().total_cmp(&b.bound()));
    let limit = longest.map_or(Limit::Memory, Prediction::limit);
    (bound, expected, limit)
}

impl DeviceRoofs {
    /// Operations a second of the instructions that multiply matrices of this type, where the device has them.
    pub fn matrix(&self, dtype: DType) -> Option<Stated> {
        match dtype {
            DType::F32 => self.matrix[0],
            DType::F16 => self.matrix[1],
            DType::BF16 => self.matrix[2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionProblem, AttentionSpec, CausalAlignment};

    fn problem(seq_q: usize, seq_kv: usize, dim: usize) -> AttentionProblem {
        AttentionProblem {
            batch: 1,
            heads: 8,
            kv_heads: 8,
            value_heads: 8,
            seq_q,
            seq_kv,
            head_dim: dim,
            value_dim: dim,
        }
    }

    fn device(name: &str) -> DeviceRoofs {
        let found = DEVICES.into_iter().find(|device| device.name == name);
        found.expect("it is in the table")
    }

    fn forward(problem: &AttentionProblem, dtype: DType, device: &DeviceRoofs) -> Prediction {
        let work = forward_work(problem, &AttentionSpec::default(), dtype);
        predict(&work, device, None)
    }

    #[test]
    fn long_sequences_are_bound_by_arithmetic_on_an_h100() {
        let h100 = device("H100 SXM");
        let long = forward(&problem(16_384, 16_384, 128), DType::F16, &h100);
        assert_eq!(long.limit(), Limit::Matrix);
    }

    #[test]
    fn decoding_one_query_is_bound_by_memory_on_every_device() {
        for device in &DEVICES {
            let decode = forward(&problem(1, 4096, 128), DType::F16, device);
            assert_eq!(decode.limit(), Limit::Memory, "{}", device.name);
        }
    }

    #[test]
    fn narrow_heads_wait_for_exponentials_sooner_than_for_products_on_an_h100() {
        // A score's products take 4 D / 989 T, its exponential 1 / 3.87 T: as long as at D 64.
        let h100 = device("H100 SXM");
        let narrow = forward(&problem(4096, 4096, 32), DType::F16, &h100);
        assert_eq!(narrow.limit(), Limit::Exponentials);
    }

    #[test]
    fn f32_takes_six_products_of_bf16_on_nvidia_and_the_vector_units_elsewhere() {
        let of = |dtype, name| forward(&problem(4096, 4096, 64), dtype, &device(name));
        let (f32, bf16) = (of(DType::F32, "A100 SXM"), of(DType::BF16, "A100 SXM"));
        assert_eq!(f32.limit(), Limit::Matrix);
        let slower = f32.bound() / bf16.bound();
        assert!((slower - 6.0).abs() < 1e-9, "{slower}");
        assert_eq!(of(DType::F32, "MI300X").limit(), Limit::Vector);
    }

    #[test]
    fn issue_counts_six_multiplications_for_one_of_f32() {
        let (problem, spec) = (problem(4096, 4096, 64), AttentionSpec::default());
        let mix = LoopMix {
            instructions: 100,
            matrix: 1,
        };
        let bound = |dtype| {
            let work = forward_work(&problem, &spec, dtype);
            predict(&work, &device("A100 SXM"), Some(mix)).bound()
        };
        let slower = bound(DType::F32) / bound(DType::BF16);
        assert!((slower - 6.0).abs() < 1e-9, "{slower}");
    }

    #[test]
    fn predictions_grow_with_the_square_of_the_length() {
        for device in &DEVICES {
            let time = |seq| forward(&problem(seq, seq, 128), DType::F16, device).bound();
            let growth = time(16_384) / time(8192);
            assert!((growth - 4.0).abs() < 1e-6, "{}: {growth}", device.name);
        }
    }

    #[test]
    fn causal_attention_takes_half_as_long() {
        let (h100, problem) = (device("H100 SXM"), problem(8192, 8192, 128));
        let causal = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
        let work = forward_work(&problem, &causal, DType::F16);
        let share =
            predict(&work, &h100, None).bound() / forward(&problem, DType::F16, &h100).bound();
        assert!((share - 0.5).abs() < 0.001, "{share}");
    }

    #[test]
    fn the_backward_multiplies_seven_times_where_the_forward_does_twice() {
        let problem = problem(1024, 1024, 64);
        let spec = AttentionSpec::default();
        let forward = forward_work(&problem, &spec, DType::F16).products;
        let backward = backward_work(&problem, &spec, DType::F16);
        let products: u64 = backward.iter().map(|work| work.products).sum();
        assert_eq!(2 * products, 7 * forward);
    }

    #[test]
    fn a_loop_with_few_matrix_instructions_is_bound_by_their_issue() {
        let h100 = device("H100 SXM");
        let work = forward_work(
            &problem(8192, 8192, 128),
            &AttentionSpec::default(),
            DType::F16,
        );
        let limit = |matrix| {
            let mix = LoopMix {
                instructions: 100,
                matrix,
            };
            predict(&work, &h100, Some(mix)).limit()
        };
        assert_eq!(limit(4), Limit::Issue);
        // A matrix instruction keeps its units busy for four others.
        assert_eq!(limit(40), Limit::Matrix);
    }

    #[test]
    fn few_cubes_leave_cores_idle() {
        let h100 = device("H100 SXM");
        let few = forward(&problem(256, 256, 64), DType::F16, &h100);
        // 8 heads of 4 cubes, for 132 cores.
        assert!((few.fill - 32.0 / 132.0).abs() < 1e-9, "{}", few.fill);
        assert!(few.expected(&h100) > h100.launch.value + few.bound() / few.fill);
    }

    #[test]
    fn an_empty_call_takes_no_longer_than_its_launch() {
        let h100 = device("H100 SXM");
        let empty = forward(&problem(0, 0, 64), DType::F16, &h100);
        assert_eq!(empty.bound(), 0.0);
        assert_eq!(empty.expected(&h100), h100.launch.value);
    }
}
