use super::GenerationConfig;

impl GenerationConfig {
    /// Changes the logits, or log-probabilities, of the token after `sequence`, of which `generated`
    /// tokens are new.
    pub(super) fn process(&self, scores: &mut [f32], sequence: &[i64], generated: usize) {
        self.penalise_repetitions(scores, sequence);
        let exclude = |scores: &mut [f32], tokens: &[i64]| {
            for &token in tokens {
                if let Some(score) = scores.get_mut(token as usize) {
                    *score = f32::NEG_INFINITY;
                }
            }
        };
        exclude(scores, &self.suppressed);
        if generated < self.min_new_tokens {
            exclude(scores, &self.end_tokens);
        }
        if generated == 0 {
            force(scores, self.forced_first);
        }
        if generated + 1 == self.max_new_tokens {
            force(scores, self.forced_last);
        }
    }

    fn penalise_repetitions(&self, scores: &mut [f32], sequence: &[i64]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let penalty = self.repetition_penalty as f32;
        let mut seen = sequence.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(score) = scores.get_mut(token as usize) {
                *score *= if *score < 0.0 {
                    penalty
                } else {
                    penalty.recip()
                };
            }
        }
    }

    /// Whether the token ends a sequence.
    pub(super) fn ends(&self, token: i64) -> bool {
        self.end_tokens.contains(&token)
    }
}

/// Leaves only `token` possible.
fn force(scores: &mut [f32], token: Option<i64>) {
    let Some(token) = token else {
        return;
    };
    scores.fill(f32::NEG_INFINITY);
    if let Some(score) = scores.get_mut(token as usize) {
        *score = 0.0;
    }
}

/// `scores - ln(sum(exp(scores)))`
pub(super) fn log_softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores
        .iter()
        .map(|&score| f64::from(score - max).exp())
        .sum();
    let log_sum = max + sum.ln() as f32;
    for score in scores {
        *score -= log_sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_sequence_becomes_less_likely() {
        let config = GenerationConfig::new(5).with_repetition_penalty(2.0);
        let mut scores = [1.0, -1.0, 1.0, -1.0];
        config.process(&mut scores, &[0, 1, 1, 9], 0);
        assert_eq!(scores, [0.5, -2.0, 1.0, -1.0]);
    }

    #[test]
    fn a_sequence_cannot_end_before_it_may_and_must_where_it_is_forced() {
        let config = GenerationConfig::new(3)
            .with_min_new_tokens(1)
            .with_end_tokens(vec![2])
            .with_forced_last(Some(2));
        let mut scores = [1.0, 0.0, 5.0];
        config.process(&mut scores, &[], 0);
        assert_eq!(scores, [1.0, 0.0, f32::NEG_INFINITY]);
        let mut scores = [1.0, 0.0, -5.0];
        config.process(&mut scores, &[], 2);
        assert_eq!(scores, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0]);
    }
}
