use attention_core::AttentionError;
use serde::{Deserialize, Serialize};

/// How the times of the steps lie between 0 and the times of training (Lin et al. 2024, table 2,
/// <https://arxiv.org/abs/2305.08891>).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Whole steps from 0.
    #[default]
    Leading,
    /// From 0 to the last time.
    Linspace,
    /// Steps back from the last time.
    Trailing,
}

/// The times of a sampler's steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spacing {
    /// How they lie.
    pub kind: TimestepSpacing,
    /// Added to whole steps.
    pub offset: usize,
}

impl Spacing {
    /// With this offset.
    pub fn new(kind: TimestepSpacing, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// So many times below `times`, the largest first, not rounded where they are fractions.
    pub(super) fn exact(self, steps: usize, times: usize) -> Result<Vec<f64>, AttentionError> {
        if steps == 0 || steps > times {
            return Err(AttentionError::Value {
                argument: "steps",
                given: steps.to_string(),
                accepted: format!("from 1 to {times}, the times of training"),
            });
        }
        let time = |step: usize| match self.kind {
            TimestepSpacing::Leading => (step * (times / steps) + self.offset) as f64,
            TimestepSpacing::Linspace => {
                (times - 1) as f64 * step as f64 / (steps.max(2) - 1) as f64
            }
            TimestepSpacing::Trailing => {
                let back = (steps - 1 - step) as f64 * times as f64 / steps as f64;
                (times as f64 - back).round_ties_even() - 1.0
            }
        };
        self.checked((0..steps).rev().map(time).collect(), times)
    }

    /// [`exact`](Self::exact), rounded.
    pub(super) fn whole(self, steps: usize, times: usize) -> Result<Vec<usize>, AttentionError> {
        let exact = self.exact(steps, times)?.into_iter();
        Ok(exact.map(|time| time.round_ties_even() as usize).collect())
    }

    /// As multistep solvers lay them: one time more, of which the last, 0, is left away.
    pub(super) fn multistep(
        self,
        steps: usize,
        last: usize,
        times: usize,
    ) -> Result<Vec<usize>, AttentionError> {
        if self.kind == TimestepSpacing::Trailing {
            return self.whole(steps, last);
        }
        self.exact(steps, times)?;
        let time = |step: usize| match self.kind {
            TimestepSpacing::Leading => (step * (last / (steps + 1)) + self.offset) as f64,
            _ => (last - 1) as f64 * step as f64 / steps as f64,
        };
        let laid = (1..=steps).rev().map(time).collect();
        let laid = self.checked(laid, times)?.into_iter();
        Ok(laid.map(|time| time.round_ties_even() as usize).collect())
    }

    /// Refuses an offset that leads beyond the last time.
    fn checked(self, laid: Vec<f64>, times: usize) -> Result<Vec<f64>, AttentionError> {
        match laid.first() {
            Some(&first) if first > (times - 1) as f64 => Err(AttentionError::Value {
                argument: "steps",
                given: format!("{} with an offset of {}", laid.len(), self.offset),
                accepted: format!("steps whose first time {first} is below {times}"),
            }),
            _ => Ok(laid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_table_2() {
        let whole = |kind, offset| Spacing::new(kind, offset).whole(5, 1000).unwrap();
        assert_eq!(whole(TimestepSpacing::Leading, 1), [801, 601, 401, 201, 1]);
        assert_eq!(whole(TimestepSpacing::Linspace, 0), [999, 749, 500, 250, 0]);
        assert_eq!(
            whole(TimestepSpacing::Trailing, 0),
            [999, 799, 599, 399, 199]
        );
    }

    #[test]
    fn steps_that_do_not_fit_are_refused() {
        let spacing = Spacing::new(TimestepSpacing::Leading, 1);
        assert!(spacing.whole(0, 1000).is_err());
        assert!(spacing.whole(1001, 1000).is_err());
        let refusal = spacing.whole(1000, 1000).unwrap_err().to_string();
        assert!(refusal.contains("an offset of 1"), "{refusal}");
    }
}
