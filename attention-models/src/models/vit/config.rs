use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use serde::{Deserialize, Serialize};

use crate::models::resample::Bicubic;

/// The nonlinearity between the two layers of the MLP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * Phi(x)`, exact (Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
    #[default]
    Gelu,
    /// `x * sigmoid(1.702 x)`, as CLIP has it.
    QuickGelu,
}

/// Where the norm after the last layer is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalNorm {
    /// To every token: the last hidden state is normalised.
    #[default]
    AllTokens,
    /// To the class token on its way into the pooled output only (CLIP).
    ClassToken,
    /// To the mean of the patch tokens, which takes the class token's place in the pooled output
    /// (BEiT).
    PatchMean,
}

/// Whether attention has learned terms for the offset from key to query on the grid of patches
/// (BEiT). They fit images of the trained size only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelativePositions {
    /// It has none.
    #[default]
    None,
    /// Each layer has its own.
    PerLayer,
    /// All layers share one table.
    Shared,
}

/// What is computed from the normalised tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Nothing.
    #[default]
    None,
    /// A linear layer on the class token, or on what takes its place (ViT, timm, BEiT; CLIP's
    /// projection has no bias).
    ClassToken {
        /// Width of the output: labels, or the projection.
        outputs: usize,
        /// Whether the layer has a bias.
        bias: bool,
    },
    /// A linear layer each on the class token and on the distillation token; the logits are their
    /// mean (DeiT with teacher).
    ClassAndDistillation {
        /// Number of labels.
        outputs: usize,
    },
    /// A linear layer on the class token beside the mean of the patch tokens (DINOv2).
    ClassAndPatchMean {
        /// Number of labels.
        outputs: usize,
    },
}

/// The sizes and variants of a [`VisionTransformer`](super::VisionTransformer).
///
/// ```
/// use attention_models::models::vit::VisionTransformerConfig;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let model = VisionTransformerConfig::new(32, 8, 48, 2, 4, 96).init(&device);
/// let output = model.forward(Tensor::zeros([1, 3, 40, 24], &device));
/// assert_eq!(output.last_hidden_state.dims(), [1, 1 + 5 * 3, 48]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct VisionTransformerConfig {
    /// Side in pixels of the square images for which positions were learned.
    pub image_size: usize,
    /// Side in pixels of a square patch.
    pub patch_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of attention heads in each layer.
    pub heads: usize,
    /// Width of the MLP's inner layer.
    pub mlp_size: usize,
    /// Channels of an image.
    #[config(default = 3)]
    pub channels: usize,
    /// Whether the patch projection has a bias.
    #[config(default = true)]
    pub patch_bias: bool,
    /// Whether the projections to queries, keys and values have a bias.
    #[config(default = true)]
    pub qkv_bias: bool,
    /// Whether the projection to keys has a bias where those to queries and values have one.
    #[config(default = true)]
    pub key_bias: bool,
    /// Whether each token has a learned position.
    #[config(default = true)]
    pub absolute_positions: bool,
    /// Whether attention has learned terms for offsets between patches.
    #[config(default = "RelativePositions::None")]
    pub relative_positions: RelativePositions,
    /// A second learned token after the class token.
    #[config(default = false)]
    pub distillation_token: bool,
    /// Learned tokens after those, which no head reads.
    #[config(default = 0)]
    pub register_tokens: usize,
    /// Whether register tokens have learned positions too.
    #[config(default = false)]
    pub register_positions: bool,
    /// How positions are fitted to an image of another size.
    #[config(default = "Bicubic::Plain")]
    pub position_filter: Bicubic,
    /// A norm before the first layer (CLIP).
    #[config(default = false)]
    pub pre_norm: bool,
    /// The constant at which LayerScale starts (Touvron et al. 2021,
    /// <https://arxiv.org/abs/2103.17239>); no LayerScale without it.
    #[config(default = "None")]
    pub layer_scale: Option<f64>,
    /// The nonlinearity of the MLP.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Added to the variance in every norm.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
    /// Where the last norm is applied.
    #[config(default = "FinalNorm::AllTokens")]
    pub final_norm: FinalNorm,
    /// A linear layer and tanh on the class token, as the pooled output.
    #[config(default = false)]
    pub pooler: bool,
    /// What is computed at the end.
    #[config(default = "Head::None")]
    pub head: Head,
}

impl VisionTransformerConfig {
    /// Refuses sizes from which no model can be made.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: usize, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted,
            })
        };
        for (argument, given) in [
            ("patch_size", self.patch_size),
            ("hidden_size", self.hidden_size),
            ("layers", self.layers),
            ("mlp_size", self.mlp_size),
            ("channels", self.channels),
        ] {
            if given == 0 {
                return refuse(argument, given, "at least 1".into());
            }
        }
        if self.image_size < self.patch_size {
            let accepted = format!("at least the patch size {}", self.patch_size);
            return refuse("image_size", self.image_size, accepted);
        }
        if self.heads == 0 || !self.hidden_size.is_multiple_of(self.heads) {
            let accepted = format!("a divisor of the hidden size {}", self.hidden_size);
            return refuse("heads", self.heads, accepted);
        }
        if self.hidden_size / self.heads > MAX_HEAD_DIM {
            let accepted = format!("enough that a head is at most {MAX_HEAD_DIM} wide");
            return refuse("heads", self.heads, accepted);
        }
        if matches!(self.head, Head::ClassAndDistillation { .. }) && !self.distillation_token {
            return Err(AttentionError::Value {
                argument: "head",
                given: format!("{:?}", self.head),
                accepted: "a head without distillation, or a distillation token".into(),
            });
        }
        if self.relative_positions != RelativePositions::None && self.prefix_tokens() > 1 {
            return Err(AttentionError::Value {
                argument: "relative_positions",
                given: format!("{:?}", self.relative_positions),
                accepted: "none, or no other token than the class token before the patches".into(),
            });
        }
        Ok(())
    }

    /// Patches along one side of the images for which positions were learned.
    pub fn trained_grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens in front of the patches: class, distillation, registers.
    pub fn prefix_tokens(&self) -> usize {
        1 + usize::from(self.distillation_token) + self.register_tokens
    }

    /// Tokens in front of the patches that have a learned position.
    pub(super) fn prefix_positions(&self) -> usize {
        let registers = if self.register_positions {
            self.register_tokens
        } else {
            0
        };
        1 + usize::from(self.distillation_token) + registers
    }
}
