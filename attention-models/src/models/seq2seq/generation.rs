use attention_core::AttentionError;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Memory, Seq2Seq, Source, layer::SourceKeys};
use crate::models::cache::KvCache;
use crate::models::generation::{
    BeamConfig, GenerationConfig, GenerationState, LanguageModel, Prompt, beam_search, generate,
};

/// How targets begin and end, and what a checkpoint says about the search for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationDefaults {
    /// The token before the first.
    pub start_token: i64,
    /// The tokens that end a target.
    pub end_tokens: Vec<i64>,
    /// What stands behind the end, and in the source where it is padded.
    pub pad_token: i64,
    /// The first token, where it is given: the language, for some.
    pub forced_first: Option<i64>,
    /// The last token of a target that would go on.
    pub forced_last: Option<i64>,
    /// Tokens that are never chosen.
    pub suppressed: Vec<i64>,
    /// How many tokens at most.
    pub max_new_tokens: usize,
    /// How many beams are followed.
    pub beams: usize,
    /// A sequence of `n` new tokens has the score `log probability / n^length_penalty`.
    pub length_penalty: f64,
}

impl Default for GenerationDefaults {
    fn default() -> Self {
        Self {
            start_token: 0,
            end_tokens: Vec::new(),
            pad_token: 0,
            forced_first: None,
            forced_last: None,
            suppressed: Vec::new(),
            max_new_tokens: 128,
            beams: 1,
            length_penalty: 1.0,
        }
    }
}

impl GenerationDefaults {
    /// The likeliest token at each step.
    pub fn greedy(&self) -> GenerationConfig {
        GenerationConfig::new(self.max_new_tokens)
            .with_end_tokens(self.end_tokens.clone())
            .with_pad_token(self.pad_token)
            .with_suppressed(self.suppressed.clone())
            .with_forced_first(self.forced_first)
            .with_forced_last(self.forced_last)
    }

    /// As many beams as the checkpoint asks for.
    pub fn beams(&self) -> BeamConfig {
        BeamConfig::new(self.beams).with_length_penalty(self.length_penalty)
    }
}

/// What the decoder remembers of a batch: its own keys and values, and those of the source.
#[derive(Debug, Clone)]
pub struct Seq2SeqState {
    cache: KvCache,
    source: Vec<SourceKeys>,
}

impl GenerationState for Seq2SeqState {
    fn select(&mut self, rows: &[usize]) {
        self.cache.select(rows);
        let Some(source) = self.source.first() else {
            return;
        };
        // Where every sequence stays what it is, nothing is copied.
        if rows.iter().copied().eq(0..source.key.dims()[0]) {
            return;
        }
        let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let index = TensorData::new(index, [rows.len()]);
        let index = Tensor::<1, Int>::from_data(index, &source.key.device());
        for keys in &mut self.source {
            keys.key = keys.key.clone().select(0, index.clone());
            keys.value = keys.value.clone().select(0, index.clone());
            let padding = keys.padding.take();
            keys.padding = padding.map(|padding| padding.select(0, index.clone()));
        }
    }
}

impl LanguageModel for Seq2Seq {
    type State = Seq2SeqState;

    fn next_logits(
        &self,
        tokens: Tensor<2, Int>,
        state: &mut Seq2SeqState,
    ) -> Result<Tensor<2>, AttentionError> {
        let [_, new] = tokens.dims();
        // The tokens are the model's own: asking the device whether it knows them would make every step wait.
        let embedded = self.embed_next(tokens, state.cache.length())?;
        let input = self.decoder.input(None);
        let cache = Some(&mut state.cache);
        let states = self
            .decoder
            .forward(embedded, &input, &state.source, cache)?;
        let last = states.slice_dim(1, new - 1..new);
        Ok(self.logits(last).squeeze_dim::<2>(1))
    }

    fn device(&self) -> Device {
        self.embedding.weight.device()
    }
}

impl Seq2Seq {
    /// The state from which a target of up to `capacity` tokens is generated.
    pub fn state(&self, memory: &Memory, capacity: usize) -> Seq2SeqState {
        let whole = vec![None; self.decoder.layers.len()];
        Seq2SeqState {
            cache: KvCache::new(whole, capacity),
            source: self.source_keys(memory),
        }
    }

    /// The targets of a batch of sources, without the start token and padding.
    ///
    /// # Errors
    ///
    /// Those of [`try_forward`](Self::try_forward) and of [`generate`].
    pub fn generate(
        &self,
        source: Source,
        config: &GenerationConfig,
    ) -> Result<Vec<Vec<i64>>, AttentionError> {
        let (prompt, state) = self.start(source, config)?;
        generate(self, prompt, state, config.clone())
    }

    /// As [`generate`](Self::generate), by a search with beams.
    ///
    /// # Errors
    ///
    /// Those of [`try_forward`](Self::try_forward) and of [`beam_search`].
    pub fn beam_search(
        &self,
        source: Source,
        config: &GenerationConfig,
        search: &BeamConfig,
    ) -> Result<Vec<Vec<i64>>, AttentionError> {
        let (prompt, state) = self.start(source, config)?;
        beam_search(self, prompt, state, config, search)
    }

    fn start(
        &self,
        source: Source,
        config: &GenerationConfig,
    ) -> Result<(Prompt, Seq2SeqState), AttentionError> {
        let memory = self.encode(source)?;
        let defaults = &self.config.generation;
        let batch = memory.states.dims()[0];
        let starts = vec![vec![defaults.start_token]; batch];
        let prompt = Prompt::left_padded(&starts, defaults.pad_token)?;
        Ok((prompt, self.state(&memory, 1 + config.max_new_tokens)))
    }
}
