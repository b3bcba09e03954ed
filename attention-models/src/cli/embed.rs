//! `attention embed`: sentences as vectors, and how alike they are.

use std::time::Instant;

use anyhow::Result;
use burn::tensor::{DType, Device, Tensor};
use clap::Args;

use super::{precision::Precision, progress, table::Table};
use crate::models::checkpoint::find;
use crate::models::encoder::{Encoder, EncoderInput};
use crate::models::tokenizer::{Length, Side, Tokenizer};

/// Texts that run together.
const BATCH: usize = 16;
/// Characters of a text that the table shows.
const SHOWN: usize = 48;

/// Turn sentences into vectors, and show how alike they are
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The sentences
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// A model folder, or the name of a model fetched by `cargo xtask models fetch`
    #[arg(long, default_value = "minilm", value_name = "DIR|NAME")]
    model: String,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type in which it computes
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// Runs `attention embed`: prints the cosine of every two texts.
///
/// # Errors
///
/// A device that is not there or does not have the type, a model that cannot be read, or a text that is too long.
pub fn run(args: &EmbedArgs) -> Result<()> {
    let device = super::open_device(&args.device)?;
    let folder = find(&args.model)?;
    let tokenizer = Tokenizer::load(&folder)?;
    let model = args.dtype.of(Encoder::load(&folder, &device)?, &device)?;
    let clock = Instant::now();
    let (vectors, tokens) = embeddings(&model, &tokenizer, &args.texts, &device)?;
    let width = vectors.dims()[1];
    let cosines = cosines(vectors);
    let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
    print!("{}", table(&args.texts, &cosines));
    println!(
        "{} texts of {tokens} tokens, {width} numbers each; {milliseconds:.0} ms",
        args.texts.len()
    );
    Ok(())
}

/// The vectors of all texts, `[texts, hidden_size]`, and how many tokens the texts have.
fn embeddings(
    model: &Encoder,
    tokenizer: &Tokenizer,
    texts: &[String],
    device: &Device,
) -> Result<(Tensor<2>, usize)> {
    let bar = progress(texts.len())?;
    let (mut vectors, mut tokens) = (Vec::new(), 0);
    for texts in texts.chunks(BATCH) {
        let batch = tokenizer.batch(texts, Length::Longest, Side::Right, device)?;
        tokens += batch.lengths.iter().sum::<usize>();
        let input = EncoderInput::new(batch.ids).with_padding(batch.padding);
        vectors.push(model.try_forward(input)?.mean().cast(DType::F32));
        bar.inc(texts.len() as u64);
    }
    bar.finish_and_clear();
    Ok((Tensor::cat(vectors, 0), tokens))
}

/// The cosine of every two rows.
fn cosines(vectors: Tensor<2>) -> Vec<Vec<f32>> {
    let length = vectors.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    let vectors = vectors / length;
    let cosines = vectors.clone().matmul(vectors.transpose());
    let columns = cosines.dims()[1];
    let cosines: Vec<f32> = cosines.into_data().iter::<f32>().collect();
    cosines.chunks(columns).map(<[f32]>::to_vec).collect()
}

fn table(texts: &[String], cosines: &[Vec<f32>]) -> Table {
    let numbers = (1..=texts.len()).map(|number| number.to_string());
    let mut table = Table::new([String::new(), String::new()].into_iter().chain(numbers));
    for (row, (text, cosines)) in texts.iter().zip(cosines).enumerate() {
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        let cells = cosines.iter().map(|cosine| format!("{cosine:.3}"));
        let cells = [(row + 1).to_string(), shown].into_iter().chain(cells);
        table.push(cells.collect::<Vec<_>>());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_cosine_of_every_two_texts() {
        let vectors = Tensor::<2>::from_data([[2.0, 0.0], [1.0, 1.0]], &Device::flex());
        let texts = ["a".to_string(), "b".to_string()];
        let table = table(&texts, &cosines(vectors)).to_string();
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(lines[1], "1  a  1.000  0.707");
        assert_eq!(lines[2], "2  b  0.707  1.000");
    }
}
