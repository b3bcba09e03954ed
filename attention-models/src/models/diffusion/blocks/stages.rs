use attention_core::AttentionError;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Downsample, Norm, ResnetBlock, ResnetBlockConfig, Upsample};
use crate::models::diffusion::control::Context;

/// What lets the pixels of an image see each other: an attention, or a transformer that reads a
/// text too.
pub trait SpatialMixer: Module {
    /// `[batch, channels, height, width]` to the same.
    fn mix(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4>;
}

/// What the blocks of one UNet have in common.
#[derive(Debug, Clone, Copy)]
pub struct StageConfig {
    /// Width of the time embedding.
    pub time: usize,
    /// The norms of residual blocks.
    pub norm: Norm,
}

impl StageConfig {
    fn resnet(&self, inputs: usize, outputs: usize, device: &Device) -> ResnetBlock {
        let config = ResnetBlockConfig {
            inputs,
            outputs,
            time: Some(self.time),
            norm: self.norm,
        };
        config.init(device)
    }

    /// Residual blocks `inputs -> outputs -> … -> outputs`, each followed by one of `attentions`
    /// where there are any.
    pub fn down<A: SpatialMixer>(
        &self,
        [inputs, outputs]: [usize; 2],
        layers: usize,
        attentions: Vec<A>,
        last: bool,
        device: &Device,
    ) -> DownBlock<A> {
        let from = |layer: usize| if layer == 0 { inputs } else { outputs };
        let downsample = || Downsample::new(outputs, true, device);
        DownBlock {
            resnets: (0..layers)
                .map(|layer| self.resnet(from(layer), outputs, device))
                .collect(),
            attentions,
            downsamplers: (!last).then(downsample).into_iter().collect(),
        }
    }

    /// Two residual blocks, and an attention between them where there is one.
    pub fn middle<A: SpatialMixer>(
        &self,
        channels: usize,
        attention: Option<A>,
        device: &Device,
    ) -> MidBlock<A> {
        let resnet = || self.resnet(channels, channels, device);
        MidBlock {
            resnets: [resnet(), resnet()],
            attentions: attention.into_iter().collect(),
        }
    }

    /// Residual blocks that each read one of the skips, of so many channels, beside the output of
    /// what came before, `inputs` channels for the first.
    pub fn up<A: SpatialMixer>(
        &self,
        [inputs, outputs]: [usize; 2],
        skips: &[usize],
        attentions: Vec<A>,
        last: bool,
        device: &Device,
    ) -> UpBlock<A> {
        let upsample = || Upsample::new(outputs, device);
        let mut from = inputs;
        let resnet = |skip: &usize| {
            let resnet = self.resnet(from + skip, outputs, device);
            from = outputs;
            resnet
        };
        UpBlock {
            resnets: skips.iter().map(resnet).collect(),
            attentions,
            upsamplers: (!last).then(upsample).into_iter().collect(),
        }
    }
}

/// One level of the way down.
#[derive(Module, Debug)]
pub struct DownBlock<A: SpatialMixer> {
    /// The residual blocks.
    pub resnets: Vec<ResnetBlock>,
    /// As many as residual blocks, or none.
    pub attentions: Vec<A>,
    /// One, but for the lowest level.
    pub downsamplers: Vec<Downsample>,
}

impl<A: SpatialMixer> DownBlock<A> {
    /// Leaves every output on `skips`, where the way up finds it.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        context: &mut Context,
    ) -> Tensor<4> {
        for (layer, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, Some(time));
            if let Some(attention) = self.attentions.get(layer) {
                x = attention.mix(x, context);
            }
            skips.push(x.clone());
        }
        for downsampler in &self.downsamplers {
            x = downsampler.forward(x);
            skips.push(x.clone());
        }
        x
    }
}

/// The lowest level.
#[derive(Module, Debug)]
pub struct MidBlock<A: SpatialMixer> {
    /// Before and after the attention.
    pub resnets: [ResnetBlock; 2],
    /// One or none.
    pub attentions: Vec<A>,
}

impl<A: SpatialMixer> MidBlock<A> {
    /// `[batch, channels, height, width]` to the same.
    pub fn forward(
        &self,
        x: Tensor<4>,
        time: Option<&Tensor<2>>,
        context: &mut Context,
    ) -> Tensor<4> {
        let [before, after] = &self.resnets;
        let x = self
            .attentions
            .iter()
            .fold(before.forward(x, time), |x, attention| {
                attention.mix(x, context)
            });
        after.forward(x, time)
    }
}

/// One level of the way up.
#[derive(Module, Debug)]
pub struct UpBlock<A: SpatialMixer> {
    /// The residual blocks.
    pub resnets: Vec<ResnetBlock>,
    /// As many as residual blocks, or none.
    pub attentions: Vec<A>,
    /// One, but for the highest level.
    pub upsamplers: Vec<Upsample>,
}

impl<A: SpatialMixer> UpBlock<A> {
    /// Takes a skip from the end of `skips` for each residual block.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for fewer `skips` than residual blocks.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        skips: &mut Vec<Tensor<4>>,
        context: &mut Context,
    ) -> Result<Tensor<4>, AttentionError> {
        let given = skips.len();
        for (layer, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().ok_or_else(|| AttentionError::Value {
                argument: "skips",
                given: given.to_string(),
                accepted: format!("{}, one for each residual block", self.resnets.len()),
            })?;
            x = resnet.forward(Tensor::cat(vec![x, skip], 1), Some(time));
            if let Some(attention) = self.attentions.get(layer) {
                x = attention.mix(x, context);
            }
        }
        let upsamplers = self.upsamplers.iter();
        Ok(upsamplers.fold(x, |x, upsampler| upsampler.forward(x)))
    }
}
