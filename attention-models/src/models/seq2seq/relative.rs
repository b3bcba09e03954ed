use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};

use crate::ops::AttentionOptions;
use crate::ops::variants;

/// T5's relative positions: what is learned for a head and a bucket of distances is added to the scores. Near
/// distances have a bucket each, larger ones share them logarithmically. All layers of a stack share the table.
#[derive(Module, Debug)]
pub struct RelativeBias {
    /// `[buckets, heads]`
    pub table: Embedding,
    max_distance: usize,
    bidirectional: bool,
}

/// The table as one call needs it.
#[derive(Debug, Clone)]
pub(super) struct Relative {
    /// `[heads * buckets]`
    table: Tensor<1>,
    /// The bucket of each distance.
    buckets: Tensor<1, Int>,
    count: usize,
    bidirectional: bool,
}

impl RelativeBias {
    pub(super) fn new(
        [buckets, heads]: [usize; 2],
        max_distance: usize,
        bidirectional: bool,
        device: &Device,
    ) -> Self {
        Self {
            table: EmbeddingConfig::new(buckets, heads).init(device),
            max_distance,
            bidirectional,
        }
    }

    pub(super) fn prepared(&self) -> Relative {
        let table = self.table.weight.val();
        let [count, heads] = table.dims();
        let buckets = variants::relative_position_buckets(
            count as u32,
            self.max_distance as u32,
            self.bidirectional,
        );
        Relative {
            buckets: Tensor::from_data(buckets.as_slice(), &table.device()),
            table: table.transpose().reshape([heads * count]),
            count,
            bidirectional: self.bidirectional,
        }
    }
}

impl Relative {
    /// Adds to the scores of queries, the first of which stands at `offset` among the keys.
    pub fn added_to(&self, options: AttentionOptions, offset: usize) -> AttentionOptions {
        options.with_score_mod(variants::relative_position_bias(
            self.table.clone(),
            self.buckets.clone(),
            self.count as u32,
            self.bidirectional,
            offset as u32,
        ))
    }
}
