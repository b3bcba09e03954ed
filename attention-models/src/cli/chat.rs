//! `attention chat`: a language model answers, token by token.

use std::{
    io::{Write, stdout},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::Value;

use super::precision::Precision;
use crate::models::{
    checkpoint::{Checkpoint, find},
    decoder::Decoder,
    generation::{GenerationConfig, Prompt, Sampling, stream},
    tokenizer::{Message, Role, Tokenizer},
};

/// Ask a language model; the answer appears as it is written.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// What is asked
    prompt: String,
    /// A model folder, a GGUF file, or the name of a model fetched by `cargo xtask models fetch`
    #[arg(long, default_value = "smollm2", value_name = "DIR|FILE|NAME")]
    model: String,
    /// What the model is told before the prompt; its own words if not given
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Let the model go on with the prompt's text, as a model that is no assistant does
    #[arg(long, conflicts_with = "system")]
    plain: bool,
    /// The answer's length at most
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens: usize,
    /// How far from the likeliest tokens the answer may stray; at 0 it is always the same
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f64,
    /// Sample only from so many of the likeliest tokens; 0 for all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Sample only from the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,
    /// Sample only tokens at least this likely as a part of the likeliest one's probability
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f64,
    /// Make tokens that were there less likely by this factor
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    repetition_penalty: f64,
    /// The same seed samples the same answer
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type that the model computes in
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// Runs `attention chat`.
///
/// # Errors
///
/// A model or tokenizer that cannot be read, a prompt that is too long for the model, options outside
/// of their domain, a device or type that is not there.
pub fn run(args: &ChatArgs) -> Result<()> {
    let device = super::open_device(&args.device)?;
    let path = find(&args.model)?;
    let tokenizer = Tokenizer::load(&path)?;
    let text = text(args, &tokenizer)?;
    let ids = tokenizer.encode_plain(&text)?.ids;
    let ids = ids.into_iter().map(i64::from).collect();
    let prompt = Prompt::left_padded(&[ids], tokenizer.padding_id().into())
        .context("the prompt has no tokens")?;

    let bar = ProgressBar::new_spinner().with_message(format!("loading {}", args.model));
    bar.enable_steady_tick(Duration::from_millis(100));
    let model = args.dtype.of(Decoder::load(&path, &device)?, &device)?;
    bar.finish_and_clear();

    let length = prompt.length();
    let cache = model.cache(&prompt, args.max_tokens)?;
    let start = Instant::now();
    let mut first = None;
    let mut answer = tokenizer.stream();
    let mut tokens = 0usize;
    for step in stream(&model, prompt, cache, config(args, &path)?)? {
        first.get_or_insert_with(|| start.elapsed());
        let [Some(token)] = step?[..] else {
            break;
        };
        tokens += 1;
        if let Some(text) = answer.push(token.try_into()?)? {
            print!("{text}");
            stdout().flush()?;
        }
    }
    println!();
    eprintln!(
        "{}",
        summary(length, first.unwrap_or_default(), tokens, start.elapsed())
    );
    Ok(())
}

/// What the model reads.
fn text(args: &ChatArgs, tokenizer: &Tokenizer) -> Result<String> {
    if args.plain {
        return Ok(args.prompt.clone());
    }
    let template = tokenizer
        .chat_template()
        .context("the model cannot be asked; `--plain` lets it go on with the prompt's text")?;
    let system = args.system.iter();
    let system = system.map(|text| Message::new(Role::System, text.as_str()));
    let user = Message::new(Role::User, args.prompt.as_str());
    Ok(template.render(&system.chain([user]).collect::<Vec<_>>()))
}

fn config(args: &ChatArgs, path: &Path) -> Result<GenerationConfig> {
    let sampling = if args.temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Random {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            seed: args.seed,
        }
    };
    let file: Value = Checkpoint::open(path)?.config()?;
    let ends = &file["eos_token_id"];
    let ends = ends
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![ends.clone()]);
    Ok(GenerationConfig::new(args.max_tokens)
        .with_end_tokens(ends.iter().filter_map(Value::as_i64).collect())
        .with_sampling(sampling)
        .with_repetition_penalty(args.repetition_penalty))
}

/// How fast it was: until the first token, and from there on.
fn summary(prompt: usize, first: Duration, tokens: usize, total: Duration) -> String {
    let rate = |count: usize, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
    let rest = tokens.saturating_sub(1);
    format!(
        "prompt: {prompt} tokens, {:.1} tokens/s; answer: {tokens} tokens, {:.1} tokens/s; {:.1} s",
        rate(prompt, first),
        rate(rest, total.saturating_sub(first)),
        total.as_secs_f64()
    )
}
