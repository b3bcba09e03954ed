//! The words of a prompt, and which words of two prompts are the same.

use std::ops::Range;

/// What ends a word in CLIP's vocabulary.
const END_OF_WORD: &str = "</w>";

/// A word of a prompt, and the tokens that stand for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As the vocabulary writes it, in small letters.
    pub text: String,
    /// Which of the prompt's tokens.
    pub tokens: Range<usize>,
}

/// The words of a prompt's tokens, given as CLIP's vocabulary writes them; tokens that a tokenizer
/// adds around a text, `<|…|>`, are none.
///
/// ```
/// use attention_models::models::diffusion::pipeline::words;
///
/// let words = words(&["<|startoftext|>", "a</w>", "cro", "issant</w>", "<|endoftext|>"]);
/// assert_eq!((words[1].text.as_str(), words[1].tokens.clone()), ("croissant", 2..4));
/// ```
pub fn words<T: AsRef<str>>(tokens: &[T]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut open: Option<Word> = None;
    for (index, token) in tokens.iter().enumerate() {
        let token = token.as_ref();
        if token.starts_with("<|") && token.ends_with("|>") {
            words.extend(open.take());
            continue;
        }
        let word = open.get_or_insert_with(|| Word {
            text: String::new(),
            tokens: index..index,
        });
        word.tokens.end = index + 1;
        match token.strip_suffix(END_OF_WORD) {
            Some(end) => {
                word.text.push_str(end);
                words.extend(open.take());
            }
            None => word.text.push_str(token),
        }
    }
    words.extend(open);
    words
}

/// Which tokens of a target prompt take the maps of which tokens of a source prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// `[tokens of the source][tokens of the target]`: how much of a source token's map a target
    /// token gets.
    pub(super) shares: Vec<f32>,
    /// `[tokens]`: 1 where a target token has no counterpart and keeps its own map.
    pub(super) own: Vec<f32>,
    pub(super) tokens: usize,
}

impl Alignment {
    /// Each word of the target takes the map of the word of the source at its place. Prompts need
    /// the same number of words; `None` otherwise.
    ///
    /// Both have `tokens` tokens with those that are added; what comes after the words is aligned
    /// from their end on.
    pub fn replace(source: &[Word], target: &[Word], tokens: usize) -> Option<Self> {
        let pairs = (0..source.len()).map(|index| (index, index)).collect();
        (source.len() == target.len()).then(|| Self::of(source, target, pairs, tokens))
    }

    /// Each word of the target that is also in the source, in the same order, takes its map; new
    /// words keep their own.
    pub fn refine(source: &[Word], target: &[Word], tokens: usize) -> Self {
        Self::of(source, target, common(source, target), tokens)
    }

    fn of(source: &[Word], target: &[Word], pairs: Vec<(usize, usize)>, tokens: usize) -> Self {
        let mut alignment = Self {
            shares: vec![0.0; tokens * tokens],
            own: vec![1.0; tokens],
            tokens,
        };
        // The token that begins a text, and those that fill it up.
        let begin = |words: &[Word]| words.first().map_or(0, |word| word.tokens.start);
        let end = |words: &[Word]| words.last().map_or(0, |word| word.tokens.end);
        let before = begin(source).min(begin(target));
        let rest = tokens - end(source).max(end(target)).min(tokens);
        for token in 0..before {
            alignment.join(token..token + 1, token..token + 1);
        }
        for token in 0..rest {
            let (from, to) = (end(source) + token, end(target) + token);
            alignment.join(from..from + 1, to..to + 1);
        }
        for (from, to) in pairs {
            alignment.join(source[from].tokens.clone(), target[to].tokens.clone());
        }
        alignment
    }

    /// Tokens of a word to those of another: one to one where they are as many, else each of the
    /// target gets an equal share of all of the source.
    fn join(&mut self, source: Range<usize>, target: Range<usize>) {
        let (source, target) = (self.within(source), self.within(target));
        let share = 1.0 / target.len().max(1) as f32;
        let same = source.len() == target.len();
        for (i, from) in source.enumerate() {
            for (j, to) in target.clone().enumerate() {
                self.own[to] = 0.0;
                if !same {
                    self.shares[from * self.tokens + to] = share;
                } else if i == j {
                    self.shares[from * self.tokens + to] = 1.0;
                }
            }
        }
    }

    /// Prompts may be cut off.
    fn within(&self, range: Range<usize>) -> Range<usize> {
        range.start.min(self.tokens)..range.end.min(self.tokens)
    }
}

/// Pairs of equal words in the same order, as many as there can be.
fn common(source: &[Word], target: &[Word]) -> Vec<(usize, usize)> {
    let columns = target.len() + 1;
    let mut longest = vec![0usize; (source.len() + 1) * columns];
    for i in (0..source.len()).rev() {
        for j in (0..target.len()).rev() {
            longest[i * columns + j] = if source[i].text == target[j].text {
                longest[(i + 1) * columns + j + 1] + 1
            } else {
                longest[(i + 1) * columns + j].max(longest[i * columns + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < source.len() && j < target.len() {
        if source[i].text == target[j].text {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * columns + j] >= longest[i * columns + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(text: &str) -> Vec<Word> {
        let tokens: Vec<_> = std::iter::once("<|startoftext|>".to_string())
            .chain(text.split(' ').map(|word| format!("{word}</w>")))
            .collect();
        words(&tokens)
    }

    /// The source token whose whole map a target token takes.
    fn taken(alignment: &Alignment, target: usize) -> Option<usize> {
        let tokens = alignment.tokens;
        (0..tokens).find(|source| alignment.shares[source * tokens + target] == 1.0)
    }

    #[test]
    fn a_refined_prompt_keeps_the_maps_of_the_words_that_stay() {
        let (source, target) = (prompt("a cat on grass"), prompt("a fluffy cat on grass"));
        let alignment = Alignment::refine(&source, &target, 8);
        let taken: Vec<_> = (0..8).map(|token| taken(&alignment, token)).collect();
        let expected = [0, 1, 9, 2, 3, 4, 5, 6].map(|token| (token < 8).then_some(token));
        assert_eq!(taken, expected);
        assert_eq!(alignment.own, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_replaced_word_of_two_tokens_shares_the_map_of_one() {
        let source = prompt("a cat");
        let target = words(&["<|startoftext|>", "a</w>", "cro", "issant</w>"]);
        let alignment = Alignment::replace(&source, &target, 5).unwrap();
        assert_eq!(alignment.shares[2 * 5 + 2..2 * 5 + 4], [0.5, 0.5]);
        assert_eq!(alignment.own, [0.0; 5]);
        assert_eq!(
            Alignment::replace(&source, &prompt("a fluffy cat"), 5),
            None
        );
    }
}
