//! `attention translate`: an encoder-decoder writes a text anew.

use std::{path::Path, path::PathBuf, time::Instant};

use anyhow::{Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use clap::Args;

use super::{precision::Precision, progress};
use crate::models::generation::GenerationConfig;
use crate::models::seq2seq::{Seq2Seq, Source};
use crate::models::tokenizer::{MarianTokenizer, Tokenizer, TokenizerError};

/// Translate texts with a model of Marian, or have a T5 or BART write them anew
#[derive(Debug, Args)]
pub struct TranslateArgs {
    /// The texts
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// A model folder, with its tokenizer
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// How many beams the search follows; as many as the model's files say if not given
    #[arg(long, value_name = "N")]
    beams: Option<usize>,
    /// How many tokens at most; as many as the model's files say if not given
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type in which it computes
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// Runs `attention translate`: prints a line for each text.
///
/// # Errors
///
/// A device that is not there or does not have the type, a model or tokenizer that cannot be read, or a text that is
/// too long.
pub fn run(args: &TranslateArgs) -> Result<()> {
    let device = super::open_device(&args.device)?;
    let words = Words::load(&args.model)?;
    let model = args
        .dtype
        .of(Seq2Seq::load(&args.model, &device)?, &device)?;
    ensure!(
        model.config().audio_channels.is_none(),
        "`--model` is `{}`, which reads sound; accepted: a model that reads text",
        args.model.display()
    );
    let clock = Instant::now();
    let bar = progress(args.texts.len())?;
    let mut tokens = 0;
    for text in &args.texts {
        bar.set_message(text.clone());
        let target = translated(&model, &words.encode(text)?, args, &device)?;
        tokens += target.len();
        let target: Vec<_> = target.into_iter().map(|token| token as u32).collect();
        let line = words.decode(&target)?;
        bar.suspend(|| println!("{line}"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rate = tokens as f64 / clock.elapsed().as_secs_f64();
    eprintln!("{tokens} tokens, {rate:.1} tokens/s");
    Ok(())
}

fn translated(
    model: &Seq2Seq,
    source: &[u32],
    args: &TranslateArgs,
    device: &Device,
) -> Result<Vec<i64>> {
    let source: Vec<i64> = source.iter().map(|&token| i64::from(token)).collect();
    let source = TensorData::new(source.clone(), [1, source.len()]);
    let source = Source::text(Tensor::<2, Int>::from_data(source, device));
    let defaults = &model.config().generation;
    // The table of positions may end before.
    let positions = model.config().decoder.max_positions.unwrap_or(usize::MAX);
    let most = args.max_tokens.unwrap_or(defaults.max_new_tokens);
    let config = GenerationConfig {
        max_new_tokens: most.min(positions),
        ..defaults.greedy()
    };
    let mut search = defaults.beams();
    search.beams = args.beams.unwrap_or(search.beams);
    let targets = match search.beams {
        1 => model.generate(source, &config)?,
        _ => model.beam_search(source, &config, &search)?,
    };
    Ok(targets.into_iter().next().unwrap_or_default())
}

/// The tokenizer of a folder.
enum Words {
    Marian(MarianTokenizer),
    Other(Tokenizer),
}

impl Words {
    fn load(folder: &Path) -> Result<Self, TokenizerError> {
        match folder.join("source.spm").is_file() {
            true => MarianTokenizer::load(folder).map(Self::Marian),
            false => Tokenizer::load(folder).map(Self::Other),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Marian(words) => words.encode(text),
            Self::Other(words) => words.encode(text).map(|encoded| encoded.ids),
        }
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        match self {
            Self::Marian(words) => Ok(words.decode(tokens)),
            Self::Other(words) => words.decode(tokens),
        }
    }
}
