use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{
    Tensor,
    module::interpolate,
    ops::{InterpolateMode, InterpolateOptions},
};

use crate::models::diffusion::{AttentionControl, Site, control::plain};
use crate::ops::{AttentionOptions, attention_with_lse, pooled_attention};

/// What each token of a prompt looked at: the cross-attention maps of a picture, the mean over
/// heads, layers and steps (Tang et al. 2022, <https://arxiv.org/abs/2210.04885>).
///
/// A map is computed from queries and keys by [`pooled_attention`]; of a layer, only the mean over
/// its heads exists.
#[derive(Debug, Default)]
pub struct WordMaps {
    images: usize,
    /// For each size of the image, the sum of maps `[images, pixels, tokens]` and their number.
    sums: BTreeMap<[usize; 2], (Tensor<3>, usize)>,
}

/// A map over the pixels of a picture's latents.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatGrid {
    /// `[rows, columns]`
    pub grid: [usize; 2],
    /// Row by row.
    pub values: Vec<f32>,
}

impl WordMaps {
    /// Of so many pictures.
    pub fn new(images: usize) -> Self {
        Self {
            images,
            sums: BTreeMap::new(),
        }
    }

    /// How much the pixels of a picture attended to these tokens together. Maps of smaller sizes are
    /// enlarged to the largest. `None` before any pass, and for a picture or tokens that there are
    /// not.
    pub fn heat(&self, image: usize, tokens: Range<usize>) -> Option<HeatGrid> {
        let (grid, (largest, _)) = self.sums.last_key_value()?;
        let [images, _, known] = largest.dims();
        if image >= images || tokens.is_empty() || tokens.end > known {
            return None;
        }
        let mut total: Option<Tensor<4>> = None;
        let mut maps = 0;
        for ([height, width], (sum, count)) in &self.sums {
            let own = sum.clone().slice_dim(0, image..image + 1);
            let own = own.slice_dim(2, tokens.clone()).sum_dim(2);
            let own = own.reshape([1, 1, *height, *width]);
            let options = InterpolateOptions::new(InterpolateMode::Bilinear)
                .with_output_size(*grid)
                .with_align_corners(false);
            let own = interpolate(own, options);
            total = Some(match total {
                Some(total) => total + own,
                None => own,
            });
            maps += count;
        }
        let mean = total?.div_scalar(maps as f64);
        Some(HeatGrid {
            grid: *grid,
            values: mean.into_data().to_vec::<f32>().ok()?,
        })
    }
}

impl AttentionControl for WordMaps {
    fn attend(
        &mut self,
        site: Site,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> Tensor<4> {
        if !site.cross {
            return plain(query, key, value);
        }
        let options = AttentionOptions::default();
        let (out, lse) = attention_with_lse(query.clone(), key.clone(), value, options.clone());
        // The pictures with their text come last.
        let first = query.dims()[0].saturating_sub(self.images);
        let grid = [query.dims()[2], key.dims()[2]];
        let map = pooled_attention(
            query.slice_dim(0, first..),
            key.slice_dim(0, first..),
            lse.slice_dim(0, first..),
            grid,
            options,
        );
        let sum = match self.sums.remove(&site.grid) {
            Some((sum, count)) => (sum + map, count + 1),
            None => (map, 1),
        };
        self.sums.insert(site.grid, sum);
        out
    }

    fn images(&self) -> Option<usize> {
        Some(self.images)
    }
}
