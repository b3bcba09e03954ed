//! Small attention calls with made-up numbers in them.

use attention_core::oracle::{Array4, Inputs, Mask4, Tensor4};
use attention_core::{AttentionProblem, AttentionSpec};

/// One call: its sizes, its options, and the shapes of what may be left out.
#[derive(Debug, Clone)]
pub struct Case {
    pub problem: AttentionProblem,
    pub spec: AttentionSpec,
    pub mask: Option<[usize; 4]>,
    pub bias: Option<[usize; 4]>,
    pub seed: u64,
}

impl Case {
    /// Two batch elements and two heads of three queries and four keys, nothing optional.
    pub fn plain() -> Self {
        Self {
            problem: AttentionProblem {
                batch: 2,
                heads: 2,
                kv_heads: 2,
                value_heads: 2,
                seq_q: 3,
                seq_kv: 4,
                head_dim: 3,
                value_dim: 2,
            },
            spec: AttentionSpec::default(),
            mask: None,
            bias: None,
            seed: 1,
        }
    }

    /// Inputs for this case. A third of the mask is hidden, and a tenth of the bias is `-inf`.
    pub fn inputs(&self) -> Inputs {
        let mut random = Random(self.seed);
        Inputs {
            query: random.tensor(self.problem.query_shape()),
            key: random.tensor(self.problem.key_shape()),
            value: random.tensor(self.problem.value_shape()),
            mask: self.mask.map(|shape| random.mask(shape)),
            bias: self.bias.map(|shape| random.bias(shape)),
        }
    }

    /// Upstream gradients of the output and of the log-sum-exp.
    pub fn upstream(&self) -> (Tensor4, Vec<f64>) {
        let mut random = Random(!self.seed);
        let grad_out = random.tensor(self.problem.output_shape());
        let rows = self.problem.lse_shape().iter().product();
        (grad_out, (0..rows).map(|_| random.symmetric()).collect())
    }
}

/// SplitMix64 (Steele et al. 2014), so that every case is the same on every machine.
struct Random(u64);

impl Random {
    /// Uniform from 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform from -2 to 2.
    fn symmetric(&mut self) -> f64 {
        4.0 * self.unit() - 2.0
    }

    fn array<T: Copy>(&mut self, shape: [usize; 4], next: impl Fn(&mut Self) -> T) -> Array4<T> {
        let len = shape.iter().product();
        Array4::new(shape, (0..len).map(|_| next(self)).collect())
    }

    fn tensor(&mut self, shape: [usize; 4]) -> Tensor4 {
        self.array(shape, Self::symmetric)
    }

    fn mask(&mut self, shape: [usize; 4]) -> Mask4 {
        self.array(shape, |random| random.unit() < 1.0 / 3.0)
    }

    fn bias(&mut self, shape: [usize; 4]) -> Tensor4 {
        self.array(shape, |random| {
            if random.unit() < 0.1 {
                f64::NEG_INFINITY
            } else {
                random.symmetric()
            }
        })
    }
}
