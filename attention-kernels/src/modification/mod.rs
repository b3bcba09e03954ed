//! Score modifications and masks written as code, compiled into every kernel of exact attention.
//!
//! A [`ScoreMod`] changes the scores between the product `scale * q k^T` and the softmax; a [`Mask`]
//! says which keys a query sees; a [`WeightMod`] multiplies the probabilities that the softmax gives. All are small `#[cube]` functions of a [`Place`] in the score
//! matrix and of what they [captured](Captured): numbers, and tensors on the device. Nothing of the
//! size of the score matrix is stored, forward or backward.
//!
//! ```
//! use attention_kernels::modification::{Captured, Lanes, Mask, Place, ScoreMod};
//! use cubecl::prelude::*;
//!
//! /// Scores fall by `rate` per token of distance.
//! #[cube]
//! fn decay(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
//!     let distance = Vector::<f32, Lanes>::cast_from(at.query) - Vector::cast_from(at.key);
//!     distance * Vector::new(-captured.number(0usize))
//! }
//!
//! /// A query sees the keys of its own segment.
//! #[cube]
//! fn segment(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
//!     let length = Vector::new(captured.count(0usize));
//!     (at.query / length).equal(&(at.key / length))
//! }
//!
//! # fn main() {
//! let score: ScoreMod<()> = ScoreMod::additive(decay::expand).with_number(0.5);
//! let mask: Mask<()> = Mask::new(segment::expand).with_count(16);
//! assert_eq!(score.then(ScoreMod::additive(decay::expand)).steps(), 2);
//! assert_ne!(mask.clone(), mask.not());
//! # }
//! ```
//!
//! Write them at the level of a module: the macro does not find what a function's body imports.
//!
//! A kernel works on several scores at once, [`Lanes`] of them, that share batch element and head:
//! along the queries in the forward, along the keys in one walk of the backward. Functions are
//! therefore written on vectors; operators work as on numbers, and `Vector::new(x)` is the same `x`
//! for all lanes.
//!
//! FlexAttention (Dong et al. 2024, <https://arxiv.org/abs/2412.05496>) has the same two kinds of
//! functions for PyTorch.

mod captured;
mod code;
mod demand;
mod function;
mod launch;
mod mask;
mod place;
mod score;
mod table;
mod weight;

pub use captured::{Captured, CapturedValues};
pub use code::{CapturedTensors, Modification};
pub use function::{PlaceFunction, ScoreFunction};
pub use mask::Mask;
pub use place::{Lanes, Place};
pub use score::ScoreMod;
pub use table::Table;
pub use weight::WeightMod;

pub(crate) use captured::{CapturedData, CapturedDataExpand, CapturedDataLaunch};
pub(crate) use code::{Code, modified, reweighed, scaled, slope, slots, visible};
pub(crate) use launch::{CapturedRefs, captured_data, check_captured, check_tables};
pub(crate) use place::in_lanes;
