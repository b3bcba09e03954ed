use super::{GenerationConfig, Sampling, processors::log_softmax};

/// Chooses tokens.
pub(super) struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    pub(super) fn new(config: &GenerationConfig) -> Self {
        let state = match config.sampling {
            Sampling::Random { seed, .. } => seed,
            Sampling::Greedy => 0,
        };
        Self {
            sampling: config.sampling,
            state,
        }
    }

    /// The token that is chosen by these logits.
    pub(super) fn choose(&mut self, logits: &[f32]) -> i64 {
        let Sampling::Random {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling
        else {
            return likeliest(logits);
        };
        let candidates = candidates(logits, temperature, top_k, top_p, min_p);
        let total: f64 = candidates.iter().map(|(_, probability)| probability).sum();
        let mut rest = self.uniform() * total;
        for &(token, probability) in &candidates {
            rest -= probability;
            if rest < 0.0 {
                return token;
            }
        }
        candidates.last().map_or(0, |(token, _)| *token)
    }

    /// From 0 to less than 1 (SplitMix64, Steele et al. 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The first of the largest.
pub(super) fn likeliest(logits: &[f32]) -> i64 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as i64
}

/// The tokens that may be chosen, likeliest first, with probabilities that need not sum to 1.
fn candidates(
    logits: &[f32],
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
) -> Vec<(i64, f64)> {
    let mut scores: Vec<f32> = logits
        .iter()
        .map(|logit| (f64::from(*logit) / temperature) as f32)
        .collect();
    log_softmax(&mut scores);
    let scores = scores.into_iter().enumerate();
    let mut tokens: Vec<_> = scores
        .map(|(token, score)| (token as i64, f64::from(score).exp()))
        .filter(|(_, probability)| *probability > 0.0)
        .collect();
    tokens.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    if top_k > 0 {
        tokens.truncate(top_k);
    }
    // Those before a token decide whether it stays, so that one always does.
    let total: f64 = tokens.iter().map(|(_, probability)| probability).sum();
    let mut before = 0.0;
    let kept = tokens.iter().take_while(|(_, probability)| {
        let stays = before < top_p * total;
        before += probability;
        stays
    });
    let kept = kept.count().max(1);
    tokens.truncate(kept);
    let least = min_p * tokens.first().map_or(0.0, |(_, probability)| *probability);
    tokens.retain(|(_, probability)| *probability >= least);
    tokens
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LN_2;

    use super::*;

    /// Probabilities 0.5, 0.25, 0.125, 0.125.
    const LOGITS: [f32; 4] = [0.0, -LN_2, -2.0 * LN_2, -2.0 * LN_2];

    fn tokens(top_k: usize, top_p: f64, min_p: f64) -> Vec<i64> {
        let candidates = candidates(&LOGITS, 1.0, top_k, top_p, min_p);
        candidates.into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn only_the_likeliest_tokens_remain() {
        assert_eq!(tokens(0, 1.0, 0.0), [0, 1, 2, 3]);
        assert_eq!(tokens(2, 1.0, 0.0), [0, 1]);
        assert_eq!(tokens(0, 0.6, 0.0), [0, 1]);
        assert_eq!(tokens(0, 0.01, 0.0), [0]);
        assert_eq!(tokens(0, 1.0, 0.4), [0, 1]);
        assert_eq!(tokens(2, 0.6, 0.0), [0]);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely_and_the_same_from_one_seed() {
        let config = GenerationConfig::new(1).with_sampling(Sampling::Random {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 7,
        });
        let draw = || {
            let mut sampler = Sampler::new(&config);
            (0..4000)
                .map(|_| sampler.choose(&LOGITS))
                .collect::<Vec<_>>()
        };
        let drawn = draw();
        assert_eq!(drawn, draw());
        let share = |token| drawn.iter().filter(|it| **it == token).count() as f64 / 4000.0;
        assert!((share(0) - 0.5).abs() < 0.03 && (share(1) - 0.25).abs() < 0.03);
    }

    #[test]
    fn a_low_temperature_is_nearly_greedy() {
        let logits = [1.0, 1.5, 0.0];
        assert_eq!(likeliest(&logits), 1);
        let candidates = candidates(&logits, 0.01, 0, 1.0, 0.0);
        assert!(candidates[0].0 == 1 && candidates[0].1 > 0.999);
    }
}
