use attention_models::models::{
    checkpoint::{CheckpointError, Weights},
    decoder::Decoder,
    generation::{GenerationConfig, LanguageModel, Prompt, generate, stream},
};
use attention_models::ops::AttentionError;
use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};

use super::{golden, passes};

const OUTPUTS: [&str; 5] = [
    "attentions",
    "generated_ids",
    "hidden_states",
    "logits",
    "logits_padded",
];

#[test]
fn gpt2_computes_what_transformers_computes() {
    passes("gpt2", &OUTPUTS);
}

#[test]
fn gpt_neox_computes_what_transformers_computes() {
    passes("gpt_neox", &OUTPUTS);
}

#[test]
fn llama_computes_what_transformers_computes() {
    passes("llama", &OUTPUTS);
}

#[test]
fn mistral_computes_what_transformers_computes() {
    passes("mistral_sliding", &OUTPUTS);
}

#[test]
fn mixtral_computes_what_transformers_computes() {
    passes("mixtral", &OUTPUTS);
}

#[test]
fn qwen2_computes_what_transformers_computes() {
    passes("qwen2", &OUTPUTS);
}

#[test]
fn qwen3_computes_what_transformers_computes() {
    passes("qwen3", &OUTPUTS);
}

#[test]
fn gemma2_computes_what_transformers_computes() {
    passes("gemma2", &OUTPUTS);
}

#[test]
fn gemma3_computes_what_transformers_computes() {
    passes("gemma3", &OUTPUTS);
}

#[test]
fn falcon_computes_what_transformers_computes() {
    passes("falcon_mqa", &OUTPUTS);
}

#[test]
fn bloom_computes_what_transformers_computes() {
    passes("bloom_alibi", &OUTPUTS);
}

#[test]
fn mpt_computes_what_transformers_computes() {
    passes("mpt_alibi", &OUTPUTS);
}

#[test]
fn gpt_oss_computes_what_transformers_computes() {
    passes("gpt_oss_sinks", &OUTPUTS);
}

#[test]
fn diffllama_computes_what_transformers_computes() {
    passes("diffllama", &OUTPUTS);
}

pub(super) fn model(name: &str) -> Decoder {
    Decoder::load(golden(name), &Device::flex()).unwrap()
}

fn tokens(rows: &[Vec<i64>]) -> Tensor<2, Int> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::flex())
}

/// Different tokens of the goldens' vocabulary.
pub(super) fn text(length: usize, first: i64) -> Vec<i64> {
    (0..length as i64)
        .map(|n| 5 + (first + 31 * n) % 90)
        .collect()
}

pub(super) fn following(model: &Decoder, rows: &[Vec<i64>], new: usize) -> Vec<Vec<i64>> {
    let prompt = Prompt::left_padded(rows, 0).unwrap();
    let cache = model.cache(&prompt, new).unwrap();
    generate(model, prompt, cache, GenerationConfig::new(new)).unwrap()
}

#[test]
fn sequences_generate_the_same_in_a_padded_batch_and_alone() {
    for name in [
        "gpt2",
        "llama",
        "mistral_sliding",
        "gemma3",
        "bloom_alibi",
        "diffllama",
    ] {
        let model = model(name);
        let rows = [text(9, 3), text(2, 50), text(6, 70)];
        let together = following(&model, &rows, 12);
        for (row, together) in rows.into_iter().zip(together) {
            let alone = following(&model, &[row], 12).concat();
            assert_eq!(alone, together, "{name}");
        }
    }
}

#[test]
fn a_cache_gives_the_logits_of_the_whole_sequence_whatever_its_parts() {
    // Longer than any window, in parts shorter and longer than it.
    let text = text(23, 11);
    for name in [
        "gpt2",
        "mistral_sliding",
        "gemma2",
        "gpt_oss_sinks",
        "mpt_alibi",
        "diffllama",
    ] {
        let model = model(name);
        let all = model.forward(tokens(std::slice::from_ref(&text)));
        let prompt = Prompt::left_padded(std::slice::from_ref(&text), 0).unwrap();
        for parts in [vec![23], vec![1; 23], vec![3, 1, 1, 7, 2, 1, 6, 1, 1]] {
            let mut cache = model.cache(&prompt, 0).unwrap();
            let mut end = 0;
            for part in parts {
                let given = tokens(&[text[end..end + part].to_vec()]);
                end += part;
                let logits = model.next_logits(given, &mut cache).unwrap();
                let expected = all.clone().slice_dim(1, end - 1..end).squeeze_dim::<2>(1);
                logits
                    .into_data()
                    .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-4));
            }
            assert_eq!((end, cache.length()), (23, 23));
        }
    }
}

#[test]
fn a_cache_without_room_refuses_more_tokens_and_stays_as_it_is() {
    let model = model("llama");
    let prompt = Prompt::left_padded(&[text(4, 0)], 0).unwrap();
    let mut cache = model.cache(&prompt, 1).unwrap();
    model
        .next_logits(tokens(&[text(4, 0)]), &mut cache)
        .unwrap();
    let refusal = model.next_logits(tokens(&[text(2, 9)]), &mut cache);
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "`tokens` has shape [1, 2]; accepted: [1, up to 1]: the cache has room for 5 tokens and \
         holds 4"
    );
    assert_eq!(cache.length(), 4);
    assert!(model.next_logits(tokens(&[text(1, 9)]), &mut cache).is_ok());
}

#[test]
fn a_prompt_longer_than_the_position_table_is_refused() {
    let model = model("gpt2");
    let prompt = Prompt::left_padded(&[text(65, 0)], 0).unwrap();
    let expected = "`prompt` has shape [1, 65]; accepted: sequences that end at position 64, the last \
                    that was learned; these end at 65";
    assert_eq!(model.cache(&prompt, 0).unwrap_err().to_string(), expected);
    let refusal = model.try_forward(tokens(&[text(65, 0)]), None).unwrap_err();
    assert!(matches!(
        refusal,
        AttentionError::Shape {
            argument: "tokens",
            ..
        }
    ));

    // Generating past its end is refused at the step that does.
    let prompt = Prompt::left_padded(&[text(63, 0)], 0).unwrap();
    let cache = model.cache(&prompt, 9).unwrap();
    let steps = stream(&model, prompt, cache, GenerationConfig::new(9)).unwrap();
    let steps: Vec<_> = steps.map(|step| step.is_ok()).collect();
    assert_eq!(steps, [true, true, false]);
}

#[test]
fn a_token_beyond_the_vocabulary_is_refused() {
    let prompt = Prompt::left_padded(&[vec![5, 97]], 0).unwrap();
    assert_eq!(
        model("llama").cache(&prompt, 1).unwrap_err().to_string(),
        "`prompt` is token 97; accepted: tokens below 97"
    );
}

#[test]
fn the_folder_of_another_model_is_refused_with_the_known_ones() {
    let refusal = Decoder::load(golden("vit"), &Device::flex()).unwrap_err();
    let (found, accepted) = match refusal {
        CheckpointError::Architecture {
            found, accepted, ..
        } => (found, accepted),
        other => panic!("refused for another reason: {other}"),
    };
    assert_eq!(found, "the architecture ViTForImageClassification");
    assert!(accepted.contains(&"LlamaForCausalLM") && accepted.contains(&"GptOssForCausalLM"));
}

#[test]
fn a_decoder_is_written_back_as_it_was_read() {
    let names = [
        "gpt2",
        "gpt_neox",
        "llama",
        "mixtral",
        "gemma3",
        "falcon_mqa",
        "bloom_alibi",
        "mpt_alibi",
        "gpt_oss_sinks",
        "diffllama",
    ];
    for name in names {
        let read = model(name);
        let folder = tempfile::tempdir().unwrap();
        read.save(folder.path()).unwrap();
        let tensors = |path: &std::path::Path| {
            let weights = Weights::open(&path.join("model.safetensors")).unwrap();
            weights.data().unwrap()
        };
        assert!(tensors(folder.path()) == tensors(&golden(name)), "{name}");
        let again = Decoder::load(folder.path(), &Device::flex()).unwrap();
        let logits = |model: &Decoder| model.forward(tokens(&[text(9, 4)])).into_data();
        assert_eq!(logits(&again), logits(&read), "{name}");
    }
}
