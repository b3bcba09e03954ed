use std::{fs, path::Path};

use attention_models::models::tokenizer::{Length, Message, Role, Side, Tokenizer, TokenizerError};
use burn::tensor::{Device, TensorData};
use serde::Deserialize;

use super::gguf_writer::{COUNT, LIST, TEXT, Writer, text};
use super::golden;

/// What transformers' tokenizer of CLIP makes of a text.
#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
}

#[test]
fn clips_tokenizer_splits_as_transformers_does_from_either_kind_of_files() {
    let folder = golden("stable_diffusion").join("tokenizer");
    let cases = fs::read(golden("stable_diffusion").join("tokenizer_cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let older = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::copy(folder.join(file), older.path().join(file)).unwrap();
    }
    for folder in [&folder, older.path()] {
        let tokenizer = Tokenizer::load(folder).unwrap();
        assert_eq!(tokenizer.max_length(), Some(77));
        for Case { text, ids, tokens } in &cases {
            let given = tokenizer.encode(text).unwrap().tokens;
            // The golden's tokens are those before a long text is cut off.
            let kept = tokens.len().min(76);
            assert_eq!(given[..kept], tokens[..kept], "{text}");
            let batch = tokenizer
                .batch(&[text], Length::Exactly(77), Side::Right, &Device::flex())
                .unwrap();
            let filled: Vec<u32> = batch.ids.into_data().iter().collect();
            assert_eq!(filled, *ids, "{text}");
        }
    }
}

/// The small vocabulary of a GGUF file: bytes, merges, and a mark that text never becomes.
fn small() -> Writer {
    let tokens = ["a", "b", "\u{120}", "ab", "\u{120}ab", "<|im_end|>"];
    let list = |kind: u32, count: usize, values: Vec<u8>| {
        let count = (count as u64).to_le_bytes();
        [&kind.to_le_bytes()[..], &count, &values].concat()
    };
    let kinds = [1u32, 1, 1, 1, 1, 3].map(u32::to_le_bytes).concat();
    let merges = ["a b", "\u{120} ab"].map(text).concat();
    Writer::default()
        .value("tokenizer.ggml.model", TEXT, text("gpt2"))
        .value("tokenizer.ggml.pre", TEXT, text("smollm"))
        .value(
            "tokenizer.ggml.tokens",
            LIST,
            list(TEXT, 6, tokens.map(text).concat()),
        )
        .value("tokenizer.ggml.token_type", LIST, list(COUNT, 6, kinds))
        .value("tokenizer.ggml.merges", LIST, list(TEXT, 2, merges))
        .count("tokenizer.ggml.padding_token_id", 5)
}

#[test]
fn a_gguf_files_tokenizer_merges_bytes_and_keeps_marks_apart() {
    let (folder, path) = small().write();
    for path in [folder.path(), &path] {
        let tokenizer = Tokenizer::load(path).unwrap();
        let encoded = tokenizer.encode("ab ab<|im_end|>ba").unwrap();
        assert_eq!(encoded.ids, [3, 4, 5, 1, 0]);
        assert_eq!(encoded.offsets[1], (2, 5));
        assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "ab abba");
        assert_eq!(tokenizer.vocabulary_size(), 6);
        assert_eq!(tokenizer.token(4).unwrap(), "\u{120}ab");
    }
}

#[test]
fn streamed_tokens_are_the_text() {
    let (_folder, path) = small().write();
    let tokenizer = Tokenizer::load(&path).unwrap();
    let ids = tokenizer.encode("ab ab ba<|im_end|>").unwrap().ids;
    let mut stream = tokenizer.stream();
    let text: String = ids
        .iter()
        .filter_map(|id| stream.push(*id).unwrap())
        .collect();
    assert_eq!(text, tokenizer.decode(&ids).unwrap());
}

#[test]
fn a_batch_is_filled_on_the_side_that_is_asked_for() {
    let (_folder, path) = small().write();
    let tokenizer = Tokenizer::load(&path).unwrap();
    let batch = |length, side| tokenizer.batch(&["ab", "ab ab"], length, side, &Device::flex());
    let left = batch(Length::Longest, Side::Left).unwrap();
    left.ids
        .into_data()
        .assert_eq(&TensorData::from([[5i64, 3], [3, 4]]), false);
    let padding: Vec<bool> = left.padding.into_data().iter().collect();
    assert_eq!(padding, [true, false, false, false]);
    let right = batch(Length::Exactly(3), Side::Right).unwrap();
    right
        .ids
        .into_data()
        .assert_eq(&TensorData::from([[3i64, 5, 5], [3, 4, 5]]), false);
    assert_eq!(right.lengths, [1, 2]);
    let error = batch(Length::Exactly(1), Side::Right)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the longest text has 2 tokens; accepted: 1 to 1"),
        "{error}"
    );
}

#[test]
fn a_gguf_files_chat_template_is_read_or_refused() {
    let (_folder, path) = small().write();
    let error = Tokenizer::load(&path).unwrap().chat_template().unwrap_err();
    assert!(
        error.to_string().contains("the model's files have none"),
        "{error}"
    );
    let chatml = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
                  message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
                  {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let file = small().value("tokenizer.chat_template", TEXT, text(chatml));
    let (_folder, path) = file.write();
    let template = Tokenizer::load(&path).unwrap().chat_template().unwrap();
    assert_eq!(
        template.render(&[Message::new(Role::User, "ab")]),
        "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn tokenizers_that_are_not_known_are_refused_by_name() {
    let refusal = |path: &Path| Tokenizer::load(path).unwrap_err();
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        refusal(empty.path()),
        TokenizerError::NotFound { .. }
    ));
    fs::write(empty.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(
        refusal(empty.path()),
        TokenizerError::Invalid { .. }
    ));
    let (_folder, path) = Writer::default()
        .value("tokenizer.ggml.model", TEXT, text("bert"))
        .write();
    let message = refusal(&path).to_string();
    assert!(
        message.contains("`tokenizer.ggml.model` is bert; accepted: gpt2, llama, t5"),
        "{message}"
    );
}
