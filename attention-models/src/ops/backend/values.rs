//! The values that cross the dispatch boundary.

use attention_core::AttentionSpec;
use attention_kernels::{block_map::BlockShape, modification::Modification, softmax::Engine};
use burn::backend::{
    Backend, ExtensionType,
    tensor::{BoolTensor, FloatTensor, IntTensor},
};

/// An optional float tensor, in the form that backend extensions take.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum MaybeFloat<B: Backend> {
    Absent,
    Given(FloatTensor<B>),
}

/// An optional bool tensor, in the form that backend extensions take.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum MaybeBool<B: Backend> {
    Absent,
    Given(BoolTensor<B>),
}

/// An optional int tensor, in the form that backend extensions take.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum MaybeInt<B: Backend> {
    Absent,
    Given(IntTensor<B>),
}

/// What a call carries beside its tensors.
#[derive(Debug, Clone)]
pub struct Call {
    pub spec: AttentionSpec,
    pub modification: Modification,
    pub engine: Engine,
    /// What the block map was made for.
    pub blocks: Option<BlockShape>,
    /// Whether a backward pass follows, which reads the same inputs.
    #[cfg_attr(
        not(feature = "cpu"),
        expect(dead_code, reason = "only flex, and single queries on the host, ask")
    )]
    pub recorded: bool,
}

/// The tensors of a forward pass; the mask in Burn's polarity, and what code captured in one
/// dimension.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Inputs<B: Backend> {
    pub query: FloatTensor<B>,
    pub key: FloatTensor<B>,
    pub value: FloatTensor<B>,
    #[extension_type]
    pub mask: MaybeBool<B>,
    #[extension_type]
    pub bias: MaybeFloat<B>,
    #[extension_type]
    pub floats: MaybeFloat<B>,
    #[extension_type]
    pub integers: MaybeInt<B>,
    /// Learned tables of code.
    #[extension_type]
    pub tables: MaybeFloat<B>,
    /// The lists of a block map.
    #[extension_type]
    pub block_rows: MaybeInt<B>,
    #[extension_type]
    pub block_columns: MaybeInt<B>,
}

/// What a mask as code captured, for the making of a block map.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct MaskTensors<B: Backend> {
    /// Any tensor of the device, which a mask that captured none is evaluated on.
    pub anchor: IntTensor<B>,
    #[extension_type]
    pub floats: MaybeFloat<B>,
    #[extension_type]
    pub integers: MaybeInt<B>,
}

/// The lists of a block map.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct BlockLists<B: Backend> {
    pub rows: IntTensor<B>,
    pub columns: IntTensor<B>,
}

/// What a forward pass gives: `[batch, heads, seq_q, value_dim]` in the query's dtype, and
/// `[batch, heads, seq_q]` in `f32`.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct Output<B: Backend> {
    pub out: FloatTensor<B>,
    pub lse: FloatTensor<B>,
}

/// The tensors of a backward pass: those of the forward pass, its output, and the gradients of
/// that.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct BackwardInputs<B: Backend> {
    #[extension_type]
    pub forward: Inputs<B>,
    #[extension_type]
    pub output: Output<B>,
    pub grad_out: FloatTensor<B>,
    #[extension_type]
    pub grad_lse: MaybeFloat<B>,
}

/// What a backward pass gives, each in the shape and dtype of its input.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct InputGradients<B: Backend> {
    pub query: FloatTensor<B>,
    pub key: FloatTensor<B>,
    pub value: FloatTensor<B>,
    #[extension_type]
    pub bias: MaybeFloat<B>,
    #[extension_type]
    pub tables: MaybeFloat<B>,
}

impl<B: Backend> From<Option<FloatTensor<B>>> for MaybeFloat<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }
}

impl<B: Backend> MaybeFloat<B> {
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    #[cfg(feature = "cpu")]
    pub fn as_option(&self) -> Option<&FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }
}

impl<B: Backend> From<Option<BoolTensor<B>>> for MaybeBool<B> {
    fn from(tensor: Option<BoolTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }
}

impl<B: Backend> MaybeBool<B> {
    pub fn into_option(self) -> Option<BoolTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    #[cfg(feature = "cpu")]
    pub fn as_option(&self) -> Option<&BoolTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }
}

impl<B: Backend> From<Option<IntTensor<B>>> for MaybeInt<B> {
    fn from(tensor: Option<IntTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }
}

impl<B: Backend> MaybeInt<B> {
    pub fn into_option(self) -> Option<IntTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }

    #[cfg(feature = "cpu")]
    pub fn as_option(&self) -> Option<&IntTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Given(tensor) => Some(tensor),
        }
    }
}
