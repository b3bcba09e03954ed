//! The shapes that are measured.

use std::fmt;

use attention_core::{
    AttentionProblem, AttentionSpec, CausalAlignment, Cost, DType, backward_cost, forward_cost,
};
use serde::Serialize;

use crate::device::DeviceKind;

const HEAD_DIMS: [usize; 2] = [64, 128];

/// Self-attention of whole sequences, or of their last query alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Of queries.
    pub heads: usize,
    /// Of keys and values.
    pub kv_heads: usize,
    /// Of queries, keys and values.
    pub head_dim: usize,
    /// Queries: as many as keys, or one.
    pub queries: usize,
    /// Keys.
    pub seq: usize,
    /// The type of the tensors.
    pub dtype: DType,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// Whether gradients are computed too.
    pub backward: bool,
}

/// How much work a device is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// For a few cores: one sequence, 8 heads.
    Cores,
    /// For a chip, which fewer would leave idle: 16384 tokens, as FlashAttention's papers have them, and 2048
    /// elements of all heads together.
    Chip,
}

impl Scale {
    /// What fits a device.
    pub fn of(kind: DeviceKind) -> Self {
        if kind.is_software() {
            Self::Cores
        } else {
            Self::Chip
        }
    }

    /// Runs that a device is given for one wait: a chip computes one while the host prepares the next, as in a model.
    pub fn runs_per_wait(self) -> u32 {
        match self {
            Self::Cores => 1,
            Self::Chip => 8,
        }
    }

    /// Of the matrix product that a device is measured by.
    pub fn product_side(self) -> usize {
        match self {
            Self::Cores => 1024,
            Self::Chip => 8192,
        }
    }

    fn lengths(self, quick: bool) -> &'static [usize] {
        match (self, quick) {
            (Self::Cores, true) => &[256, 1024],
            (Self::Cores, false) => &[256, 1024, 4096],
            (Self::Chip, true) => &[2048],
            (Self::Chip, false) => &[512, 2048, 8192],
        }
    }

    fn batch_and_heads(self, seq: usize, head_dim: usize) -> [usize; 2] {
        match self {
            Self::Cores => [1, 8],
            Self::Chip => [16384 / seq, 2048 / head_dim],
        }
    }

    /// Sequences that a token is decoded of, and how many keys each has.
    fn decoded(self, quick: bool) -> &'static [[usize; 2]] {
        match (self, quick) {
            (Self::Cores, true) => &[[1, 1024]],
            (Self::Cores, false) => &[[1, 1024], [1, 4096]],
            (Self::Chip, true) => &[[64, 4096]],
            (Self::Chip, false) => &[[64, 4096], [16, 32768]],
        }
    }
}

/// The shapes of the table; `quick` leaves out lengths.
pub fn shapes(scale: Scale, quick: bool) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for backward in [false, true] {
            for head_dim in HEAD_DIMS {
                for &seq in scale.lengths(quick) {
                    let [batch, heads] = scale.batch_and_heads(seq, head_dim);
                    shapes.extend([false, true].map(|causal| Shape {
                        batch,
                        heads,
                        kv_heads: heads,
                        head_dim,
                        queries: seq,
                        seq,
                        dtype,
                        causal,
                        backward,
                    }));
                }
            }
        }
        shapes.extend(decoding(scale, quick, dtype));
    }
    shapes
}

/// One query of each sequence, as a language model of 8 billion parameters has it: every head its own keys, and
/// four that share them.
fn decoding(scale: Scale, quick: bool, dtype: DType) -> impl Iterator<Item = Shape> {
    const HEADS: usize = 32;
    let lengths = scale.decoded(quick).iter();
    lengths.flat_map(move |&[batch, seq]| {
        [HEADS, HEADS / 4].map(|kv_heads| Shape {
            batch,
            heads: HEADS,
            kv_heads,
            head_dim: 128,
            queries: 1,
            seq,
            dtype,
            causal: false,
            backward: false,
        })
    })
}

/// What is computed of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The output of every query.
    Forward,
    /// That and the gradients.
    Backward,
    /// The output of one query.
    Decoding,
}

impl Pass {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Backward, Self::Decoding];
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Backward => "forward+backward",
            Self::Decoding => "decoding",
        })
    }
}

impl Shape {
    /// What is computed.
    pub fn pass(&self) -> Pass {
        if self.backward {
            Pass::Backward
        } else if self.queries == 1 {
            Pass::Decoding
        } else {
            Pass::Forward
        }
    }

    /// Whether the device has the dtype.
    pub fn runs_on(&self, kind: DeviceKind) -> bool {
        kind.facts()
            .is_ok_and(|facts| facts.dtypes.contains(&self.dtype))
    }

    /// `[batch, heads, seq, head_dim]` of queries, keys and values.
    pub fn dims(&self) -> [[usize; 4]; 3] {
        let tokens = [self.batch, self.kv_heads, self.seq, self.head_dim];
        let queries = [self.batch, self.heads, self.queries, self.head_dim];
        [queries, tokens, tokens]
    }

    /// Its sizes.
    pub fn problem(&self) -> AttentionProblem {
        AttentionProblem {
            batch: self.batch,
            heads: self.heads,
            kv_heads: self.kv_heads,
            value_heads: self.kv_heads,
            seq_q: self.queries,
            seq_kv: self.seq,
            head_dim: self.head_dim,
            value_dim: self.head_dim,
        }
    }

    /// Floating-point operations and bytes that it cannot do without.
    pub fn cost(&self) -> Cost {
        let problem = self.problem();
        let forward = forward_cost(&problem, &self.spec(), self.dtype);
        if !self.backward {
            return forward;
        }
        let backward = backward_cost(&problem, &self.spec(), self.dtype);
        Cost {
            flops: forward.flops + backward.flops,
            bytes: forward.bytes + backward.bytes,
        }
    }

    /// Causal or not.
    pub fn spec(&self) -> AttentionSpec {
        AttentionSpec {
            causal: self.causal.then_some(CausalAlignment::BottomRight),
            ..AttentionSpec::default()
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causal = if self.causal { " causal" } else { "" };
        let Self {
            batch,
            heads,
            kv_heads,
            head_dim,
            seq,
            dtype,
            ..
        } = self;
        write!(f, "B{batch} H{heads}")?;
        if kv_heads != heads {
            write!(f, "/{kv_heads}")?;
        }
        write!(f, " D{head_dim} N{seq} {dtype}{causal} {}", self.pass())
    }
}
