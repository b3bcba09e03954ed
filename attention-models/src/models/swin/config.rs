use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use serde::{Deserialize, Serialize};

use crate::models::vit::Activation;

/// Which paper's blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwinVersion {
    /// Norms before the branches, scaled dot products, a table of position terms.
    #[default]
    V1,
    /// Norms after the branches, cosine attention, position terms from a small network.
    V2,
}

/// The sizes and variants of a [`SwinTransformer`](super::SwinTransformer).
///
/// ```
/// use attention_models::models::swin::SwinConfig;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let config = SwinConfig::new(32, 4, 24, vec![2, 2], vec![2, 4], 4);
/// let model = config.with_labels(Some(5)).init(&device);
/// let output = model.forward(Tensor::zeros([1, 3, 32, 32], &device));
/// assert_eq!(output.last_hidden_state.dims(), [1, 4, 4, 48]);
/// assert_eq!(output.logits.unwrap().dims(), [1, 5]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct SwinConfig {
    /// Side in pixels of the square images of training.
    pub image_size: usize,
    /// Side in pixels of a square patch.
    pub patch_size: usize,
    /// Width of a token in the first stage; it doubles from stage to stage.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Attention heads of each stage.
    pub heads: Vec<usize>,
    /// Side in patches of a square window.
    pub window: usize,
    /// Which paper's blocks.
    #[config(default = "SwinVersion::V1")]
    pub version: SwinVersion,
    /// The windows with which a version 2 model was trained before, for each stage: offsets are
    /// measured by them. The model's own where it is empty or 0.
    #[config(default = "Vec::new()")]
    pub pretrained_windows: Vec<usize>,
    /// Channels of an image.
    #[config(default = 3)]
    pub channels: usize,
    /// Width of an MLP's inner layer over the width of a token.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias; the keys of version 2 have
    /// none.
    #[config(default = true)]
    pub qkv_bias: bool,
    /// Whether each patch has a learned position besides.
    #[config(default = false)]
    pub absolute_positions: bool,
    /// The nonlinearity of the MLPs.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Added to the variance in every norm.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Number of labels of a linear layer on the mean token.
    #[config(default = "None")]
    pub labels: Option<usize>,
}

impl SwinConfig {
    /// Refuses sizes from which no model can be made.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`]
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: String, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given,
                accepted,
            })
        };
        for (argument, given) in [
            ("patch_size", self.patch_size),
            ("embed_dim", self.embed_dim),
            ("window", self.window),
            ("channels", self.channels),
            ("depths", self.depths.iter().copied().min().unwrap_or(0)),
        ] {
            if given == 0 {
                return refuse(argument, given.to_string(), "at least 1".into());
            }
        }
        if self.image_size < self.patch_size {
            let accepted = format!("at least the patch size {}", self.patch_size);
            return refuse("image_size", self.image_size.to_string(), accepted);
        }
        if self.heads.len() != self.depths.len() {
            let accepted = format!("a number for each of {} stages", self.depths.len());
            return refuse("heads", format!("{:?}", self.heads), accepted);
        }
        for (stage, &heads) in self.heads.iter().enumerate() {
            let width = self.width(stage);
            if heads == 0 || !width.is_multiple_of(heads) {
                let accepted = format!("a divisor of {width}, the width of stage {stage}");
                return refuse("heads", heads.to_string(), accepted);
            }
            if width / heads > MAX_HEAD_DIM {
                let accepted = format!("enough that a head is at most {MAX_HEAD_DIM} wide");
                return refuse("heads", heads.to_string(), accepted);
            }
        }
        Ok(())
    }

    /// Width of a token in a stage.
    pub fn width(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Patches along one side of a training image in a stage.
    pub fn trained_grid(&self, stage: usize) -> usize {
        (0..stage).fold(self.image_size.div_ceil(self.patch_size), |side, _| {
            side.div_ceil(2)
        })
    }
}
