//! Masks and score modifications of the literature, each a few lines on top of
//! [`modification`](crate::modification). They combine like any other.
//!
//! Positions count from 0 in each sequence. A mask that compares queries with keys takes `offset`,
//! the position among the keys that query 0 has: 0 for self-attention, `seq_kv - seq_q` where the
//! queries are the last of a longer sequence.
//!
//! | function | what it does |
//! |---|---|
//! | [`causal`] | keys up to the query |
//! | [`sliding_window`], [`dilated_window`] | keys within a distance |
//! | [`prefix_lm`] | a prefix sees itself whole |
//! | [`same_document`] | tokens see their own document |
//! | [`flagged_tokens`] | flagged tokens see and are seen by all: Longformer's global tokens |
//! | [`first_tokens`] | the first keys are always seen: StreamingLLM |
//! | [`padding`] | keys up to a length per sequence |
//! | [`key_range`] | a range of keys for every query |
//! | [`strided`], [`fixed_summary`] | Sparse Transformer |
//! | [`big_bird`] | window, global and given blocks |
//! | [`alibi`] | scores fall with distance |
//! | [`relative_position_bias`] | T5's buckets of distances |
//! | [`grid_position_bias`], [`window_position_bias`] | Swin's offsets in two dimensions |
//! | [`class_grid_position_bias`] | BEiT's: a class token before the grid |
//! | [`grid_window`] | Swin's windows, shifted or not, on a grid that stays as it is |
//! | [`softcap`] | scores squashed by `tanh` |
//! | [`dropout`], [`dropout_seeded_by`], [`given_dropout`] | probabilities dropped, the others scaled up |
//!
//! ```
//! use attention_kernels::{modification::Mask, variants};
//!
//! // Longformer: a dilated window, and a few tokens that see and are seen by all.
//! let flags = "an integer tensor with 1 for every global token";
//! let longformer: Mask<&str> =
//!     variants::dilated_window(3, 2).or(variants::flagged_tokens(flags));
//! assert_eq!(longformer.captured().counts, [3, 2]);
//! ```

mod alibi;
mod big_bird;
mod causal;
mod documents;
mod dropout;
mod grid_position_bias;
mod grid_window;
mod key_range;
mod longformer;
mod padding;
mod prefix_lm;
mod relative_position_bias;
mod softcap;
mod sparse_transformer;
mod streaming;
mod window;

pub use alibi::{alibi, alibi_slopes};
pub use big_bird::big_bird;
pub use causal::causal;
pub use documents::same_document;
pub use dropout::{dropout, dropout_seeded_by, given_dropout};
pub use grid_position_bias::{class_grid_position_bias, grid_position_bias};
pub use grid_window::{grid_window, window_position_bias};
pub use key_range::key_range;
pub use longformer::flagged_tokens;
pub use padding::padding;
pub use prefix_lm::prefix_lm;
pub use relative_position_bias::{relative_position_bias, relative_position_buckets};
pub use softcap::softcap;
pub use sparse_transformer::{fixed_summary, strided};
pub use streaming::first_tokens;
pub use window::{dilated_window, sliding_window};

use cubecl::prelude::*;

use crate::modification::Lanes;

/// `|a - b|`
#[cube]
fn distance(a: Vector<u32, Lanes>, b: Vector<u32, Lanes>) -> Vector<u32, Lanes> {
    max(a, b) - min(a, b)
}
