//! What is compared: models with their inputs, and who computes the same here.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::burn_llama::BurnLlama;
use crate::{
    cli::bench::report::Who,
    models::{
        checkpoint::find,
        decoder::Decoder,
        diffusion::{Noise, Plain, guided::GuidedUNet},
        encoder::{Encoder, EncoderInput},
        generation::{GenerationConfig, LanguageModel, Prompt, generate},
        vit::VisionTransformer,
    },
    ops::comparison::with_burn_attention,
};

/// Tokens of the prompt.
const PROMPT: usize = 512;
/// Tokens of an answer whose prompt is in the cache already.
pub const STEPS: usize = 16;
/// Tokens of an answer after its prompt.
const ANSWER: usize = 64;

/// Runs once; the output is on the host when it returns.
pub type Run = Rc<dyn Fn() -> Result<TensorData>>;

/// Someone here who computes a subject.
pub struct Contender {
    pub who: Who,
    pub run: Run,
    /// What is reported is the time of a run by this number.
    pub parts: u32,
}

/// What everyone computes.
pub struct Subject {
    pub name: &'static str,
    /// By which the peers know the model.
    pub model: &'static str,
    /// The weights that the peers read.
    pub folder: PathBuf,
    pub inputs: Vec<(&'static str, TensorData)>,
    /// Ours first.
    pub contenders: Vec<Contender>,
    /// Tokens to generate; 0 for a single pass.
    pub new_tokens: usize,
    /// Whether all tokens of the prompt but the last are in the cache before.
    pub prefilled: bool,
}

impl Subject {
    /// A single pass, with our attention and with Burn's.
    fn pass(
        name: &'static str,
        model: &'static str,
        folder: &Path,
        inputs: Vec<(&'static str, TensorData)>,
        run: impl Fn() -> Result<TensorData> + 'static,
    ) -> Self {
        let ours: Run = Rc::new(run);
        let burn = Rc::clone(&ours);
        let burn: Run = Rc::new(move || with_burn_attention(|| burn()));
        let contender = |who, run| Contender { who, run, parts: 1 };
        Self {
            name,
            model,
            folder: folder.to_path_buf(),
            inputs,
            contenders: vec![contender(Who::Ours, ours), contender(Who::Burn, burn)],
            new_tokens: 0,
            prefilled: false,
        }
    }

    /// By what the time of a peer's run is divided.
    pub fn peer_parts(&self) -> u32 {
        if self.prefilled { STEPS as u32 } else { 1 }
    }
}

/// The subjects of one model, by name, and how they are made on a device, with a folder into which the
/// model is saved, for the peers to read.
pub struct Model {
    pub subjects: &'static [&'static str],
    pub make: fn(&Device, &Path) -> Result<Vec<Subject>>,
}

const DINOV2: [&str; 2] = ["DINOv2-S 224 px", "DINOv2-S 518 px"];
const MINILM: &str = "MiniLM batch 8 length 128";
const TERRAIN: &str = "terrain UNet 128 px";
const SMOLLM2: [&str; 3] = [
    "SmolLM2 prefill 512",
    "SmolLM2 a token after 512",
    "SmolLM2 512 tokens and 64 more",
];

/// All.
pub const MODELS: [Model; 4] = [
    Model {
        subjects: &DINOV2,
        make: dinov2,
    },
    Model {
        subjects: &[MINILM],
        make: minilm,
    },
    Model {
        subjects: &[TERRAIN],
        make: terrain,
    },
    Model {
        subjects: &SMOLLM2,
        make: smollm2,
    },
];

fn dinov2(device: &Device, scratch: &Path) -> Result<Vec<Subject>> {
    let model = VisionTransformer::load(&find("dinov2_s14")?, device)?;
    let folder = scratch.join("dinov2_s14");
    model.save(&folder)?;
    let model = Rc::new(model);
    let subject = |name, side| {
        let pixels = Noise::new(0).normal([1, 3, side, side], device);
        let inputs = vec![("pixel_values", pixels.to_data())];
        let model = Rc::clone(&model);
        Subject::pass(name, "dinov2_s14", &folder, inputs, move || {
            let output = model.try_forward(pixels.clone())?;
            Ok(output.last_hidden_state.into_data())
        })
    };
    Ok(vec![subject(DINOV2[0], 224), subject(DINOV2[1], 518)])
}

fn minilm(device: &Device, scratch: &Path) -> Result<Vec<Subject>> {
    let model = Encoder::load(&find("minilm")?, device)?;
    let folder = scratch.join("minilm");
    model.save(&folder)?;
    let ids = ids([8, 128], model.config().vocabulary);
    let tokens = Tensor::<2, Int>::from_data(ids.clone(), device);
    let inputs = vec![("input_ids", ids)];
    let subject = Subject::pass(MINILM, "minilm", &folder, inputs, move || {
        let output = model.try_forward(EncoderInput::new(tokens.clone()))?;
        Ok(output.last_hidden_state.into_data())
    });
    Ok(vec![subject])
}

fn terrain(device: &Device, _: &Path) -> Result<Vec<Subject>> {
    let folder = find("terrain")?;
    let model = GuidedUNet::load(&folder, device)?;
    let side = model.config().image_size;
    let sample = Noise::new(0).normal([1, 1, side, side], device);
    let one = |value: f64| Tensor::<1>::full([1], value, device);
    let (times, labels) = (one(500.0), one(0.7));
    let inputs = vec![
        ("sample", sample.to_data()),
        ("times", times.to_data()),
        ("labels", labels.to_data()),
    ];
    let subject = Subject::pass(TERRAIN, "terrain", &folder, inputs, move || {
        let (times, labels) = (times.clone(), labels.clone());
        let output = model.try_forward(sample.clone(), times, labels, &mut Plain)?;
        Ok(output.into_data())
    });
    Ok(vec![subject])
}

fn smollm2(device: &Device, scratch: &Path) -> Result<Vec<Subject>> {
    let model = Rc::new(Decoder::load(&find("smollm2")?, device)?);
    let folder = scratch.join("smollm2");
    model.save(&folder)?;
    let burn = Rc::new(BurnLlama::like(&model, PROMPT + ANSWER)?);
    let prompt = ids([1, PROMPT], model.config().vocabulary);
    let tokens: Vec<i64> = prompt.iter::<i64>().collect();
    let inputs = vec![("input_ids", prompt)];

    let prefill = {
        let (model, prompt) = (Rc::clone(&model), one_prompt(tokens.clone())?);
        Subject::pass(SMOLLM2[0], "smollm2", &folder, inputs.clone(), move || {
            let mut cache = model.cache(&prompt, 0)?;
            let tokens = prompt.tokens(&model.device());
            Ok(model.next_logits(tokens, &mut cache)?.into_data())
        })
    };
    let generated = |name, contenders, tokens: Vec<i64>, new_tokens, prefilled| {
        let shape = [1, tokens.len()];
        Subject {
            name,
            model: "smollm2",
            folder: folder.clone(),
            inputs: vec![("input_ids", TensorData::new(tokens, shape))],
            contenders,
            new_tokens,
            prefilled,
        }
    };

    let last = [&tokens[..], &[7]].concat();
    let steps = {
        let (ours, burns) = (Rc::clone(&model), Rc::clone(&burn));
        let mut cache = model.cache(&one_prompt(tokens.clone())?, STEPS)?;
        let prompt = Tensor::<2, Int>::from_data(inputs[0].1.clone(), device);
        model.next_logits(prompt.clone(), &mut cache)?;
        let mut burn_cache = burn.cache();
        burn.next_logits(prompt, &mut burn_cache)?;
        let without: Run = {
            let (model, prompt) = (Rc::clone(&model), one_prompt(last.clone())?);
            Rc::new(move || generated_by(&*model, prompt.clone(), model.cache(&prompt, 0)?, 1))
        };
        let contender = |who, run, parts: usize| Contender {
            who,
            run,
            parts: parts as u32,
        };
        let ours: Run =
            Rc::new(move || generated_by(&*ours, one_prompt(vec![7])?, cache.clone(), STEPS));
        let burns: Run =
            Rc::new(move || generated_by(&*burns, one_prompt(vec![7])?, burn_cache.clone(), STEPS));
        vec![
            contender(Who::Ours, ours, STEPS),
            contender(Who::NoCache, without, 1),
            contender(Who::BurnModules, burns, STEPS),
        ]
    };
    let answers = {
        let prompt = one_prompt(tokens.clone())?;
        let same = prompt.clone();
        let ours: Run = Rc::new(move || {
            generated_by(
                &*model,
                prompt.clone(),
                model.cache(&prompt, ANSWER)?,
                ANSWER,
            )
        });
        let burns: Run = Rc::new(move || generated_by(&*burn, same.clone(), burn.cache(), ANSWER));
        let contender = |who, run| Contender { who, run, parts: 1 };
        vec![
            contender(Who::Ours, ours),
            contender(Who::BurnModules, burns),
        ]
    };
    Ok(vec![
        prefill,
        generated(SMOLLM2[1], steps, last, STEPS, true),
        generated(SMOLLM2[2], answers, tokens, ANSWER, false),
    ])
}

/// Tokens of a vocabulary, none twice in a row.
fn ids(shape: [usize; 2], vocabulary: usize) -> TensorData {
    const STRIDE: usize = 7919;
    let tokens = (1..=shape[0] * shape[1]).map(|at| (at * STRIDE % vocabulary) as i64);
    TensorData::new(tokens.collect::<Vec<_>>(), shape)
}

fn one_prompt(tokens: Vec<i64>) -> Result<Prompt> {
    Ok(Prompt::left_padded(&[tokens], 0)?)
}

/// The likeliest tokens after a prompt, `[1, new]`.
fn generated_by<M: LanguageModel>(
    model: &M,
    prompt: Prompt,
    state: M::State,
    new: usize,
) -> Result<TensorData> {
    let tokens = generate(model, prompt, state, GenerationConfig::new(new))?;
    match &tokens[..] {
        [tokens] if tokens.len() == new => Ok(TensorData::new(tokens.clone(), [1, new])),
        _ => bail!("{} sequences were generated for one prompt", tokens.len()),
    }
}
