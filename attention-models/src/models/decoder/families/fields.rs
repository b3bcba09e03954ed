//! The fields of transformers' configurations, whose names differ from family to family.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::models::blocks::{
    Activation, Gate, GatedMlpConfig, HuggingFaceRotary, NormConfig, PositionEncoding,
    SelfAttentionConfig, Window,
};
use crate::models::checkpoint::{Checkpoint, CheckpointError};

/// The parsed file.
pub(super) struct Fields<'a> {
    checkpoint: &'a Checkpoint,
    file: Value,
}

impl<'a> Fields<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Result<Self, CheckpointError> {
        Ok(Self {
            checkpoint,
            file: checkpoint.config()?,
        })
    }

    /// The class that wrote the file.
    pub(super) fn class(&self) -> &str {
        self.checkpoint.architecture().unwrap_or_default()
    }

    /// The first of these fields that is there and not null.
    pub(super) fn find<T: DeserializeOwned>(
        &self,
        names: &[&str],
    ) -> Result<Option<T>, CheckpointError> {
        let present = names.iter().map(|name| (name, &self.file[*name]));
        let Some((name, value)) = present.into_iter().find(|(_, value)| !value.is_null()) else {
            return Ok(None);
        };
        T::deserialize(value)
            .map(Some)
            .map_err(|error| self.refuse(format!("`{name}`: {error}")))
    }

    /// [`find`](Self::find), where one must be there.
    pub(super) fn need<T: DeserializeOwned>(&self, names: &[&str]) -> Result<T, CheckpointError> {
        self.find(names)?
            .ok_or_else(|| self.refuse(format!("missing field `{}`", names[0])))
    }

    /// Whether the field is true.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, CheckpointError> {
        Ok(self.find(&[name])?.unwrap_or(default))
    }

    /// Refuses a file whose field has another value than the one accepted.
    pub(super) fn expect(&self, name: &str, accepted: bool) -> Result<(), CheckpointError> {
        if self.flag(name, accepted)? == accepted {
            return Ok(());
        }
        Err(self.refuse(format!("`{name}` is {}; accepted: {accepted}", !accepted)))
    }

    /// The error for a field that makes no sense.
    pub(super) fn refuse(&self, reason: impl std::fmt::Display) -> CheckpointError {
        self.checkpoint.invalid_config(reason)
    }

    pub(super) fn hidden_size(&self) -> Result<usize, CheckpointError> {
        self.need(&["hidden_size", "n_embd", "d_model", "n_embed"])
    }

    pub(super) fn layers(&self) -> Result<usize, CheckpointError> {
        self.need(&["num_hidden_layers", "n_layer", "n_layers"])
    }

    pub(super) fn vocabulary(&self) -> Result<usize, CheckpointError> {
        self.need(&["vocab_size"])
    }

    pub(super) fn max_positions(&self) -> Result<usize, CheckpointError> {
        let names = ["max_position_embeddings", "n_positions", "max_seq_len"];
        self.need(&names)
    }

    pub(super) fn activation(&self) -> Result<Activation, CheckpointError> {
        let names = [
            "hidden_activation",
            "hidden_act",
            "activation_function",
            "activation",
        ];
        self.need(&names)
    }

    /// The RMSNorm of most families.
    pub(super) fn rms_norm(&self, offset: f64) -> Result<NormConfig, CheckpointError> {
        Ok(NormConfig::Rms {
            epsilon: self.find(&["rms_norm_eps"])?.unwrap_or(1e-6),
            offset,
        })
    }

    /// LayerNorm.
    pub(super) fn layer_norm(&self, bias: bool) -> Result<NormConfig, CheckpointError> {
        let names = ["layer_norm_epsilon", "layer_norm_eps"];
        Ok(NormConfig::Layer {
            epsilon: self.find(&names)?.unwrap_or(1e-5),
            bias,
        })
    }

    /// Causal attention with the heads that the file has.
    pub(super) fn attention(&self) -> Result<SelfAttentionConfig, CheckpointError> {
        let heads = self.need(&["num_attention_heads", "n_head", "n_heads"])?;
        Ok(SelfAttentionConfig::new(self.hidden_size()?, heads)
            .with_kv_heads(self.find(&["num_key_value_heads"])?)
            .with_head_dim(self.find(&["head_dim"])?)
            .with_causal(true))
    }

    /// The gated MLP of most families.
    pub(super) fn gated_mlp(&self) -> Result<GatedMlpConfig, CheckpointError> {
        let inner = self.need(&["intermediate_size"])?;
        Ok(GatedMlpConfig::new(self.hidden_size()?, inner)
            .with_bias(self.flag("mlp_bias", false)?)
            .with_gate(Gate::Activation(self.activation()?)))
    }

    /// The rotary positions of layers of this type: `rope_parameters` of version 5, which may be
    /// keyed by it, or the fields of older files.
    pub(super) fn rotary(
        &self,
        head_dim: usize,
        layer_type: &str,
    ) -> Result<PositionEncoding, CheckpointError> {
        let rope = &self.file["rope_parameters"];
        let rope = match &rope[layer_type] {
            Value::Null => rope,
            of_type => of_type,
        };
        let older = rope.is_null();
        let rope = if older {
            &self.file["rope_scaling"]
        } else {
            rope
        };
        let mut rotary = match rope {
            Value::Null => HuggingFaceRotary::default(),
            rope => serde_json::from_value(rope.clone())
                .map_err(|error| self.refuse(format!("rotary positions: {error}")))?,
        };
        if older {
            rotary.rope_theta = self.find(&["rope_theta", "rotary_emb_base"])?;
            rotary.partial_rotary_factor = self.find(&["partial_rotary_factor", "rotary_pct"])?;
        }
        let config = rotary.config(head_dim, self.max_positions()?);
        Ok(PositionEncoding::Rotary(
            config.map_err(|reason| self.refuse(reason))?,
        ))
    }

    /// The type of each layer, `full_attention` or `sliding_attention`; `default` says it where the file
    /// does not.
    pub(super) fn layer_types(
        &self,
        default: impl Fn(usize) -> bool,
    ) -> Result<Vec<LayerType>, CheckpointError> {
        let layers = self.layers()?;
        let Some(types) = self.find::<Vec<String>>(&["layer_types"])? else {
            let types = (0..layers).map(|index| {
                if default(index) {
                    LayerType::Sliding
                } else {
                    LayerType::Full
                }
            });
            return Ok(types.collect());
        };
        if types.len() != layers {
            return Err(self.refuse(format!(
                "`layer_types` names {} layers of {layers}",
                types.len()
            )));
        }
        types
            .iter()
            .map(|name| match name.as_str() {
                "full_attention" => Ok(LayerType::Full),
                "sliding_attention" => Ok(LayerType::Sliding),
                other => Err(self.refuse(format!(
                    "layer type `{other}` is not known; accepted: full_attention, \
                     sliding_attention"
                ))),
            })
            .collect()
    }

    /// The window of layers that have one.
    pub(super) fn window(&self) -> Result<Option<Window>, CheckpointError> {
        let window = self.find::<usize>(&["sliding_window"])?;
        Ok(window.map(|tokens| Window {
            before: tokens.saturating_sub(1),
            after: 0,
        }))
    }
}

/// What a layer's attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerType {
    /// All tokens before.
    Full,
    /// A window of them.
    Sliding,
}

impl LayerType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full_attention",
            Self::Sliding => "sliding_attention",
        }
    }
}
