//! Beam search, as transformers does it.

use attention_core::AttentionError;
use burn::config::Config;
use serde::{Deserialize, Serialize};

use super::{
    GenerationConfig, GenerationState, LanguageModel, Prompt, processors::log_softmax,
    prompt::tokens, stream::rows,
};

/// When a search ends that has as many whole sequences as beams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStopping {
    /// When the best open beam would be worse than the worst of them, did it end now (`false`).
    #[default]
    Heuristic,
    /// At once (`true`).
    Always,
    /// When no open beam can become better than the worst of them (`"never"`).
    Never,
}

/// How beams are searched.
#[derive(Config, Debug, PartialEq)]
pub struct BeamConfig {
    /// How many beams are followed (`num_beams`).
    pub beams: usize,
    /// A sequence of `n` new tokens has the score `log probability / n^length_penalty`.
    #[config(default = 1.0)]
    pub length_penalty: f64,
    /// When a search ends.
    #[config(default = "EarlyStopping::Heuristic")]
    pub early_stopping: EarlyStopping,
}

/// Lower than any score that counts.
const NONE: f64 = -1e9;

/// A sequence, and its log-probability or its score.
#[derive(Debug, Clone)]
struct Beam {
    tokens: Vec<i64>,
    score: f64,
    /// The beam that it continues.
    from: usize,
    whole: bool,
}

/// The beams of one sequence of the prompt.
struct Search {
    running: Vec<Beam>,
    best: Vec<Beam>,
    /// Whether open beams may still become better than whole ones.
    improvable: bool,
}

/// The best sequence after each of the prompt's, with what ended it and without padding. `config`
/// must not ask for sampling.
///
/// # Errors
/// [`AttentionError::Value`] for no beams, for more than the vocabulary can give, for sampling, or
/// for a configuration outside of its domain; those of the model.
pub fn beam_search<M: LanguageModel>(
    model: &M,
    prompt: Prompt,
    mut state: M::State,
    config: &GenerationConfig,
    search: &BeamConfig,
) -> Result<Vec<Vec<i64>>, AttentionError> {
    config.validate()?;
    search.validate(config)?;
    let start = prompt.length();
    let mut searches: Vec<_> = prompt
        .rows()
        .iter()
        .map(|row| Search::new(row, search.beams))
        .collect();
    let device = model.device();
    let mut logits = rows(model.next_logits(prompt.tokens(&device), &mut state)?);
    // What was computed once for a sequence is the same for all of its beams.
    let copies = (0..searches.len()).flat_map(|row| vec![row; search.beams]);
    let copies: Vec<_> = copies.collect();
    logits = copies.iter().map(|&row| logits[row].clone()).collect();
    state.select(&copies);

    for generated in 0..config.max_new_tokens {
        let mut all_end = true;
        for (one, logits) in searches.iter_mut().zip(logits.chunks_mut(search.beams)) {
            all_end &= one.advance(logits, start, generated, config, search);
        }
        let improvable = searches.iter().any(|one| one.improvable);
        let open = searches.iter().any(|one| !one.is_whole());
        let stop = search.early_stopping == EarlyStopping::Always && !open;
        if all_end || !improvable || stop {
            break;
        }
        let running: Vec<_> = searches.iter().enumerate().collect();
        let from = running.iter().flat_map(|(row, one)| {
            one.running
                .iter()
                .map(move |beam| row * search.beams + beam.from)
        });
        state.select(&from.collect::<Vec<_>>());
        let last = searches.iter().flat_map(|one| &one.running);
        let last: Vec<_> = last
            .map(|beam| vec![beam.tokens[start + generated]])
            .collect();
        logits = rows(model.next_logits(tokens(&last, &device), &mut state)?);
    }
    let best = |one: Search| one.best.into_iter().next().map(|beam| beam.tokens);
    let best = searches
        .into_iter()
        .map(|one| best(one).unwrap_or_default());
    Ok(best.map(|tokens| tokens[start..].to_vec()).collect())
}

impl BeamConfig {
    fn validate(&self, config: &GenerationConfig) -> Result<(), AttentionError> {
        let refuse = |argument, given: String, accepted: &str| {
            Err(AttentionError::Value {
                argument,
                given,
                accepted: accepted.into(),
            })
        };
        if self.beams == 0 {
            return refuse("beams", "0".into(), "at least 1");
        }
        if config.sampling != super::Sampling::Greedy {
            let given = format!("{:?}", config.sampling);
            return refuse("sampling", given, "greedy, in a beam search");
        }
        Ok(())
    }

    fn penalised(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length as f64).powf(self.length_penalty)
    }
}

impl Search {
    /// All beams are the prompt; only the first of them counts, lest they all become the same.
    fn new(prompt: &[i64], beams: usize) -> Self {
        let beam = |score: f64| Beam {
            tokens: prompt.to_vec(),
            score,
            from: 0,
            whole: false,
        };
        Self {
            running: (0..beams)
                .map(|n| beam(if n == 0 { 0.0 } else { NONE }))
                .collect(),
            best: vec![beam(NONE); beams],
            improvable: true,
        }
    }

    fn is_whole(&self) -> bool {
        self.best.iter().all(|beam| beam.whole)
    }

    /// Continues the beams by a token, and returns whether all continuations end there.
    fn advance(
        &mut self,
        logits: &mut [Vec<f32>],
        start: usize,
        generated: usize,
        config: &GenerationConfig,
        search: &BeamConfig,
    ) -> bool {
        let candidates = self.candidates(logits, generated, config);
        let all_end = candidates.iter().all(|beam| beam.whole);

        let mut running = candidates.clone();
        for beam in running.iter_mut().filter(|beam| beam.whole) {
            beam.score += NONE;
            beam.whole = false;
        }
        running.sort_by(|a, b| b.score.total_cmp(&a.score));
        running.truncate(search.beams);
        self.running = running;

        self.keep_best(candidates, generated + 1, search);
        let length = match search.early_stopping {
            EarlyStopping::Never if search.length_penalty > 0.0 => config.max_new_tokens,
            _ => self.running[0].tokens.len() - start,
        };
        let reachable = search.penalised(self.running[0].score, length);
        let worst = self.best.iter().map(|beam| beam.score);
        let worst = worst.fold(f64::INFINITY, f64::min);
        let worst = if self.is_whole() { worst } else { NONE };
        self.improvable &= reachable > worst;
        all_end
    }

    /// The likeliest continuations: so many that as many as there are beams remain when others end.
    fn candidates(
        &self,
        logits: &mut [Vec<f32>],
        generated: usize,
        config: &GenerationConfig,
    ) -> Vec<Beam> {
        let count = (1 + config.end_tokens.len()).max(2) * self.running.len();
        let mut scored = Vec::new();
        for (from, (beam, logits)) in self.running.iter().zip(logits).enumerate() {
            log_softmax(logits);
            config.process(logits, &beam.tokens, generated);
            let scores = logits.iter().enumerate();
            scored.extend(
                scores.map(|(token, &score)| (beam.score + f64::from(score), from, token as i64)),
            );
        }
        let count = count.min(scored.len());
        let order = |a: &(f64, usize, i64), b: &(f64, usize, i64)| b.0.total_cmp(&a.0);
        if count < scored.len() {
            scored.select_nth_unstable_by(count, order);
            scored.truncate(count);
        }
        scored.sort_by(|a, b| order(a, b).then((a.1, a.2).cmp(&(b.1, b.2))));
        let last = generated + 1 == config.max_new_tokens;
        let continued = scored.into_iter().map(|(score, from, token)| {
            let mut tokens = self.running[from].tokens.clone();
            tokens.push(token);
            Beam {
                tokens,
                score,
                from,
                whole: last || config.ends(token),
            }
        });
        continued.collect()
    }

    /// Takes whole sequences among the best, if they are among the first so many candidates as there
    /// are beams.
    fn keep_best(&mut self, candidates: Vec<Beam>, length: usize, search: &BeamConfig) {
        let full = self.is_whole() && search.early_stopping == EarlyStopping::Always;
        if full || !self.improvable {
            return;
        }
        let first = candidates.into_iter().take(search.beams);
        for mut beam in first.filter(|beam| beam.whole) {
            beam.score = search.penalised(beam.score, length);
            self.best.push(beam);
        }
        self.best.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.best.truncate(search.beams);
    }
}
