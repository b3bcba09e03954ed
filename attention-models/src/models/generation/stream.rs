use attention_core::AttentionError;
use burn::tensor::{DType, Tensor};

use super::{GenerationConfig, LanguageModel, Prompt, prompt::tokens, sampler::Sampler};

/// Tokens as they are generated: of each step, the next token of every sequence, `None` where it has
/// ended.
pub struct TokenStream<'a, M: LanguageModel> {
    model: &'a M,
    state: M::State,
    config: GenerationConfig,
    sampler: Sampler,
    /// What was given and generated.
    sequences: Vec<Vec<i64>>,
    ended: Vec<bool>,
    /// What the model has not seen yet.
    unseen: Vec<Vec<i64>>,
    generated: usize,
}

/// Generates what follows `prompt`, which the model with its empty `state` has not seen.
///
/// # Errors
/// [`AttentionError::Value`] for a configuration outside of its domain.
pub fn stream<M: LanguageModel>(
    model: &M,
    prompt: Prompt,
    state: M::State,
    config: GenerationConfig,
) -> Result<TokenStream<'_, M>, AttentionError> {
    config.validate()?;
    Ok(TokenStream {
        model,
        state,
        sampler: Sampler::new(&config),
        config,
        ended: vec![false; prompt.rows().len()],
        sequences: prompt.rows().to_vec(),
        unseen: prompt.rows().to_vec(),
        generated: 0,
    })
}

/// What follows each sequence of `prompt`, with what ended it and without padding.
///
/// # Errors
/// Those of [`stream`] and of the model.
pub fn generate<M: LanguageModel>(
    model: &M,
    prompt: Prompt,
    state: M::State,
    config: GenerationConfig,
) -> Result<Vec<Vec<i64>>, AttentionError> {
    let mut rows = vec![Vec::new(); prompt.rows().len()];
    for step in stream(model, prompt, state, config)? {
        for (row, token) in rows.iter_mut().zip(step?) {
            row.extend(token);
        }
    }
    Ok(rows)
}

impl<M: LanguageModel> TokenStream<'_, M> {
    fn step(&mut self) -> Result<Vec<Option<i64>>, AttentionError> {
        let input = tokens(&self.unseen, &self.model.device());
        let logits = self.model.next_logits(input, &mut self.state)?;
        let mut logits = rows(logits);
        let mut step = Vec::with_capacity(logits.len());
        for (row, logits) in logits.iter_mut().enumerate() {
            if self.ended[row] {
                step.push(None);
                continue;
            }
            self.config
                .process(logits, &self.sequences[row], self.generated);
            let token = self.sampler.choose(logits);
            self.ended[row] = self.config.ends(token);
            step.push(Some(token));
        }
        let pad = self.config.pad_token;
        self.unseen = step
            .iter()
            .map(|token| vec![token.unwrap_or(pad)])
            .collect();
        for (sequence, new) in self.sequences.iter_mut().zip(&self.unseen) {
            sequence.extend(new);
        }
        self.generated += 1;
        Ok(step)
    }
}

impl<M: LanguageModel> Iterator for TokenStream<'_, M> {
    type Item = Result<Vec<Option<i64>>, AttentionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let over = self.ended.iter().all(|ended| *ended);
        if over || self.generated == self.config.max_new_tokens {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            // There is nothing to go on from.
            self.ended.fill(true);
        }
        Some(step)
    }
}

/// `[batch, vocabulary]` on the host.
pub(super) fn rows(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let vocabulary = logits.dims()[1];
    let logits = logits.cast(DType::F32).into_data();
    let values = logits.as_slice::<f32>().expect("invariant: was cast");
    values
        .chunks(vocabulary.max(1))
        .map(<[f32]>::to_vec)
        .collect()
}
