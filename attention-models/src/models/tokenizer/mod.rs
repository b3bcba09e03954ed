//! Text to the numbers that language models read, and back.
//!
//! A [`Tokenizer`] is read from the folder that a model came in (`tokenizer.json`, or
//! `vocab.json` beside `merges.txt` as CLIP and GPT-2 have them, or Marian's two SentencePiece
//! files), or from a GGUF file; its arithmetic is that of Hugging Face's `tokenizers`.

mod batch;
mod bpe;
mod chat;
mod error;
mod gguf;
mod marian;
mod sentencepiece;
mod stream;

use std::path::Path;

use serde_json::Value;

use crate::models::checkpoint::find;

pub use batch::{Batch, Length, Side};
pub use chat::{ChatTemplate, Message, Role};
pub use error::TokenizerError;
pub use marian::MarianTokenizer;
pub use stream::TextStream;

/// Splits text into the tokens of one model's vocabulary.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    padding: u32,
    /// The text of the chat template, where the files have one.
    template: Option<String>,
}

/// What a text became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The numbers of the tokens.
    pub ids: Vec<u32>,
    /// The tokens as the vocabulary writes them.
    pub tokens: Vec<String>,
    /// The bytes of the text that each token stands for; an empty range for one that was added.
    pub offsets: Vec<(usize, usize)>,
    /// Which of two texts each token belongs to, for models that tell them apart.
    pub types: Vec<u32>,
}

/// The names that the padding token goes by where no file names it.
const PADDING_TOKENS: [&str; 4] = ["[PAD]", "<pad>", "<|endoftext|>", "</s>"];

impl Tokenizer {
    /// Reads the tokenizer of a model's folder, of a GGUF file, or a `tokenizer.json`.
    ///
    /// A folder has `tokenizer.json`; or `vocab.json` and `merges.txt`; or one GGUF file. What
    /// the files say about the longest text is kept, what they say about padding is not: see
    /// [`batch`](Self::batch).
    ///
    /// ```no_run
    /// # use attention_models::models::tokenizer::Tokenizer;
    /// let tokenizer = Tokenizer::load("all-MiniLM-L6-v2")?;
    /// let encoded = tokenizer.encode("A cat sits on the mat.")?;
    /// assert_eq!(encoded.tokens[..3], ["[CLS]", "a", "cat"]);
    /// # Ok::<(), attention_models::models::tokenizer::TokenizerError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TokenizerError`]: no file of these, or one that cannot be used.
    pub fn load(place: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = &find(place)?;
        if path.is_file() {
            return if path.extension().is_some_and(|ending| ending == "gguf") {
                gguf::load(path)
            } else {
                Self::from_json_file(path)
            };
        }
        if path.join("tokenizer.json").is_file() {
            return Self::from_json_file(&path.join("tokenizer.json"));
        }
        if path.join("vocab.json").is_file() && path.join("merges.txt").is_file() {
            return bpe::load(path);
        }
        match gguf::only_file(path) {
            Some(file) => gguf::load(&file),
            None => Err(TokenizerError::NotFound { path: path.clone() }),
        }
    }

    fn from_json_file(path: &Path) -> Result<Self, TokenizerError> {
        let json = error::read_json(path)?;
        Self::from_json(path, &json)?.with_folder(path.parent().unwrap_or(Path::new("")))
    }

    /// A tokenizer as `tokenizer.json` describes it; `path` stands in errors.
    fn from_json(path: &Path, json: &Value) -> Result<Self, TokenizerError> {
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(json.clone()).map_err(|error| error::invalid(path, error))?;
        let named = inner.get_padding().map(|padding| padding.pad_id);
        let known = || {
            PADDING_TOKENS
                .iter()
                .find_map(|token| inner.token_to_id(token))
        };
        let padding = named.or_else(known).unwrap_or(0);
        inner.with_padding(None);
        Ok(Self {
            inner,
            padding,
            template: None,
        })
    }

    /// Adds what `tokenizer_config.json` and `chat_template.jinja` of the folder say, where they
    /// are.
    fn with_folder(mut self, folder: &Path) -> Result<Self, TokenizerError> {
        let config = folder.join("tokenizer_config.json");
        if config.is_file() {
            let config: Value = error::read_json(&config)?;
            let padding = &config["pad_token"];
            let padding = padding.as_str().or_else(|| padding["content"].as_str());
            if let Some(id) = padding.and_then(|token| self.token_id(token)) {
                self.padding = id;
            }
            self.template = config["chat_template"].as_str().map(str::to_string);
        }
        if let Ok(template) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
            self.template = Some(template);
        }
        Ok(self)
    }

    /// Splits a text, with the tokens that the model expects around it, and no more tokens than
    /// [`max_length`](Self::max_length).
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for a text that the vocabulary cannot express.
    pub fn encode(&self, text: &str) -> Result<Encoded, TokenizerError> {
        self.encode_with(text, true)
    }

    /// As [`encode`](Self::encode), without tokens around it: for a text that has them, as a
    /// rendered [`ChatTemplate`] does.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Encoded, TokenizerError> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Encoded, TokenizerError> {
        let encoding = self.inner.encode(text, special).map_err(error::of_text)?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
            types: encoding.get_type_ids().to_vec(),
        })
    }

    /// The text of these tokens, without those that the model adds.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for tokens that are no text.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(ids, true).map_err(error::of_text)
    }

    /// The text of tokens that arrive one after the other.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The number of a token.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of a number, as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// How many tokens there are.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token that fills short rows of a batch.
    pub fn padding_id(&self) -> u32 {
        self.padding
    }

    /// The most tokens that a text becomes; the rest is cut off.
    pub fn max_length(&self) -> Option<usize> {
        self.inner
            .get_truncation()
            .map(|truncation| truncation.max_length)
    }

    /// Cuts texts off after this many tokens, those around the text included.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] where that leaves no room for the text.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self, TokenizerError> {
        let truncation = tokenizers::TruncationParams {
            max_length,
            ..Default::default()
        };
        self.inner
            .with_truncation(Some(truncation))
            .map_err(error::of_text)?;
        Ok(self)
    }

    /// How the model was taught to read a conversation.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Template`] where the files have no template, or one of a kind that is
    /// not known here.
    pub fn chat_template(&self) -> Result<ChatTemplate, TokenizerError> {
        match &self.template {
            Some(template) => ChatTemplate::parse(template),
            None => Err(TokenizerError::Template {
                reason: "the model's files have none".to_string(),
            }),
        }
    }
}
