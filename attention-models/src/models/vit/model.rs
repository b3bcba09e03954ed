use std::path::Path;

use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{
    Embeddings, EncoderLayer, FinalNorm, Head, PositionTable, RelativePositions,
    VisionTransformerConfig, families,
};
use crate::models::checkpoint::{CheckpointError, Format, find};

/// A Vision Transformer; see the [module](super) for what it covers.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    /// From pixels to tokens.
    pub embeddings: Embeddings,
    /// Before the first layer.
    pub pre_norm: Option<LayerNorm>,
    /// Terms of attention for offsets between patches, which all layers share.
    pub position_table: Option<PositionTable>,
    /// The stack.
    pub layers: Vec<EncoderLayer>,
    /// After the last layer.
    pub norm: LayerNorm,
    /// From the class token to the pooled output.
    pub pooler: Option<Linear>,
    /// From the class token to logits or to a projection.
    pub head: Option<Linear>,
    /// From the distillation token to logits.
    pub distillation_head: Option<Linear>,
    #[module(skip)]
    config: VisionTransformerConfig,
    /// Of the folder that was read.
    #[module(skip)]
    pub(in crate::models) format: Option<Format>,
}

/// What a Vision Transformer computes from a batch of images.
#[derive(Debug, Clone)]
pub struct VisionTransformerOutput {
    /// `[batch, tokens, hidden_size]`: class token, distillation and register tokens, patches row
    /// by row. Normalised, except for CLIP and BEiT.
    pub last_hidden_state: Tensor<3>,
    /// `[batch, hidden_size]`: the normalised class token, or mean of the patches, through the
    /// pooler where there is one.
    pub pooled: Tensor<2>,
    /// `[batch, outputs]`, where there is a head: logits, or CLIP's projection.
    pub logits: Option<Tensor<2>>,
    /// The two parts of DeiT's logits: from the class token and from the distillation token.
    pub distillation: Option<[Tensor<2>; 2]>,
}

impl VisionTransformerConfig {
    /// Makes a model with random weights.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self, device: &Device) -> VisionTransformer {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    ///
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<VisionTransformer, AttentionError> {
        self.validate()?;
        let norm = || {
            LayerNormConfig::new(self.hidden_size)
                .with_epsilon(self.norm_epsilon)
                .init(device)
        };
        let linear = |inputs: usize, outputs: usize, bias: bool| {
            let linear = LinearConfig::new(inputs, outputs).with_bias(bias);
            Some(linear.init(device))
        };
        let width = self.hidden_size;
        let (head, distillation_head) = match self.head {
            Head::None => (None, None),
            Head::ClassToken { outputs, bias } => (linear(width, outputs, bias), None),
            Head::ClassAndDistillation { outputs } => {
                (linear(width, outputs, true), linear(width, outputs, true))
            }
            Head::ClassAndPatchMean { outputs } => (linear(2 * width, outputs, true), None),
        };
        Ok(VisionTransformer {
            embeddings: Embeddings::new(self, device),
            pre_norm: self.pre_norm.then(norm),
            position_table: (self.relative_positions == RelativePositions::Shared)
                .then(|| PositionTable::new(self, device)),
            layers: (0..self.layers)
                .map(|_| EncoderLayer::new(self, device))
                .collect(),
            norm: norm(),
            pooler: self.pooler.then(|| linear(width, width, true)).flatten(),
            head,
            distillation_head,
            config: self.clone(),
            format: None,
        })
    }
}

impl VisionTransformer {
    /// Reads a model folder: `config.json` and `model.safetensors` of transformers' ViT, DeiT,
    /// DINOv2 (with and without registers), BEiT or CLIP (its vision tower), or of timm's
    /// `VisionTransformer`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load(&find(place)?, device)
    }

    /// Writes the model as a folder: as the one that it was read from, or, where it was made from a
    /// configuration, as transformers' ViT.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a folder that cannot be written, or a configuration that is no ViT's.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let format = match &self.format {
            Some(format) => format.clone(),
            None => families::vit_format(&self.config, folder.as_ref())?,
        };
        format.save(self, folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &VisionTransformerConfig {
        &self.config
    }

    /// Runs the model on images `[batch, channels, height, width]`, whose sides are multiples of
    /// the patch size; positions are fitted to them.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_forward`](Self::try_forward) where that refuses.
    pub fn forward(&self, pixel_values: Tensor<4>) -> VisionTransformerOutput {
        self.try_forward(pixel_values)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// [`AttentionError::Shape`] for images of another number of channels or another size.
    pub fn try_forward(
        &self,
        pixel_values: Tensor<4>,
    ) -> Result<VisionTransformerOutput, AttentionError> {
        let tokens = self.embed(pixel_values)?;
        let tokens = self.layers.iter().fold(tokens, |tokens, layer| {
            layer.forward(tokens, self.position_table.as_ref())
        });
        Ok(self.finish(tokens))
    }

    /// The input of every layer and the output of the last, not normalised:
    /// `layers + 1` tensors `[batch, tokens, hidden_size]`.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn hidden_states(&self, pixel_values: Tensor<4>) -> Result<Vec<Tensor<3>>, AttentionError> {
        let mut states = vec![self.embed(pixel_values)?];
        for (index, layer) in self.layers.iter().enumerate() {
            states.push(layer.forward(states[index].clone(), self.position_table.as_ref()));
        }
        Ok(states)
    }

    /// The input of the first layer.
    pub(super) fn embed(&self, pixel_values: Tensor<4>) -> Result<Tensor<3>, AttentionError> {
        let tokens = self.embeddings.forward(pixel_values)?;
        Ok(match &self.pre_norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        })
    }

    /// Norm, pooling and heads on the output of the last layer.
    pub fn finish(&self, tokens: Tensor<3>) -> VisionTransformerOutput {
        let (last_hidden_state, class) = match self.config.final_norm {
            FinalNorm::AllTokens => {
                let tokens = self.norm.forward(tokens);
                let class = token(&tokens, 0);
                (tokens, class)
            }
            FinalNorm::ClassToken => {
                let class = self.norm.forward(token(&tokens, 0));
                (tokens, class)
            }
            FinalNorm::PatchMean => {
                let mean = self.norm.forward(self.patch_mean(&tokens));
                (tokens, mean)
            }
        };
        let (logits, distillation) = self.logits(&last_hidden_state, &class);
        let pooled = match &self.pooler {
            Some(pooler) => pooler.forward(class).tanh(),
            None => class,
        };
        VisionTransformerOutput {
            last_hidden_state,
            pooled,
            logits,
            distillation,
        }
    }

    fn logits(
        &self,
        tokens: &Tensor<3>,
        class: &Tensor<2>,
    ) -> (Option<Tensor<2>>, Option<[Tensor<2>; 2]>) {
        let Some(head) = &self.head else {
            return (None, None);
        };
        if let Some(distillation_head) = &self.distillation_head {
            let class = head.forward(class.clone());
            let distillation = distillation_head.forward(token(tokens, 1));
            let mean = (class.clone() + distillation.clone()).div_scalar(2.0);
            return (Some(mean), Some([class, distillation]));
        }
        let input = match self.config.head {
            Head::ClassAndPatchMean { .. } => {
                Tensor::cat(vec![class.clone(), self.patch_mean(tokens)], 1)
            }
            _ => class.clone(),
        };
        (Some(head.forward(input)), None)
    }

    /// `[batch, tokens, width] -> [batch, width]`
    fn patch_mean(&self, tokens: &Tensor<3>) -> Tensor<2> {
        let patches = tokens.clone().slice_dim(1, self.config.prefix_tokens()..);
        patches.mean_dim(1).squeeze_dim::<2>(1)
    }
}

/// `[batch, tokens, width] -> [batch, width]`
fn token(tokens: &Tensor<3>, index: usize) -> Tensor<2> {
    tokens
        .clone()
        .slice_dim(1, index..index + 1)
        .squeeze_dim::<2>(1)
}
