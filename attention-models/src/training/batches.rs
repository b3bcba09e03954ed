use super::Random;

/// Which examples the batch of a step holds: all examples in a new random order in each epoch, but
/// for those that fill no whole batch.
///
/// ```
/// use attention_models::training::Batches;
///
/// let batches = Batches::new(10, 3, 42);
/// assert_eq!(batches.per_epoch(), 3);
/// assert_eq!(batches.of(5), Batches::new(10, 3, 42).of(5));
/// ```
#[derive(Debug, Clone)]
pub struct Batches {
    examples: usize,
    size: usize,
    random: Random,
}

impl Batches {
    /// Batches of `size` out of `examples`, both at least 1; a batch is no larger than there are
    /// examples.
    pub fn new(examples: usize, size: usize, seed: u64) -> Self {
        let examples = examples.max(1);
        Self {
            examples,
            size: size.clamp(1, examples),
            random: Random::new(seed),
        }
    }

    /// Steps until every example had its turn.
    pub fn per_epoch(&self) -> usize {
        self.examples / self.size
    }

    /// Examples of the batch of a step.
    pub fn of(&self, step: usize) -> Vec<usize> {
        let (epoch, batch) = (step / self.per_epoch(), step % self.per_epoch());
        let order = self.random.fork(epoch as u64).permutation(self.examples);
        order[batch * self.size..(batch + 1) * self.size].to_vec()
    }
}
