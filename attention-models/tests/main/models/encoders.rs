//! Encoders of text.

use std::fs;

use attention_models::models::checkpoint::CheckpointError;
use attention_models::models::encoder::{
    Deberta, DebertaConfig, Encoder, EncoderConfig, EncoderInput, Pooling,
};
use burn::tensor::{Bool, Device, Int, Tensor, Tolerance};
use safetensors::SafeTensors;

use super::{golden, passes};
use crate::support::devices;

const STATES: [&str; 3] = ["attentions", "hidden_states", "last_hidden_state"];

#[test]
fn bert_computes_what_transformers_computes() {
    let outputs = [
        "attentions",
        "hidden_states",
        "last_hidden_state",
        "pooler_output",
    ];
    passes("bert", &outputs);
}

#[test]
fn roformer_computes_what_transformers_computes() {
    passes("roformer", &STATES);
}

#[test]
fn modernbert_computes_what_transformers_computes() {
    passes("modernbert", &STATES);
}

#[test]
fn deberta_computes_what_transformers_computes() {
    passes("deberta_v2", &STATES);
}

#[test]
fn the_text_tower_of_clip_computes_what_transformers_computes() {
    let outputs = ["hidden_states", "last_hidden_state", "pooler_output"];
    passes("clip_text", &outputs);
}

fn tokens(rows: &[&[i64]], device: &Device) -> Tensor<2, Int> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(burn::tensor::TensorData::new(rows.concat(), shape), device)
}

fn small() -> EncoderConfig {
    EncoderConfig::new(50, 16, 32, 2, 4, 64)
}

#[test]
fn no_token_sees_padding() {
    for device in devices() {
        let model = small().init(&device);
        let whole = model.forward(EncoderInput::new(tokens(&[&[5, 6, 7]], &device)));
        let padding = Tensor::<2, Bool>::from_data([[false, false, false, true, true]], &device);
        let input = EncoderInput::new(tokens(&[&[5, 6, 7, 41, 42]], &device));
        let padded = model.forward(input.with_padding(padding));
        let states = padded.last_hidden_state.clone().slice_dim(1, 0..3);
        let tolerance = Tolerance::absolute(1e-5);
        states
            .to_data()
            .assert_approx_eq::<f32>(&whole.last_hidden_state.to_data(), tolerance);
        let mean = padded.mean().to_data();
        mean.assert_approx_eq::<f32>(&whole.mean().to_data(), tolerance);
    }
}

#[test]
fn a_prompt_longer_than_the_position_table_is_refused() {
    let device = Device::flex();
    let long = Tensor::<2, Int>::zeros([1, 17], &device);
    let refusal = small().init(&device).try_forward(EncoderInput::new(long));
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "`tokens` has shape [1, 17]; accepted: [batch, seq] of 1 to 16 tokens, the model's positions"
    );
}

#[test]
fn a_token_that_is_not_in_the_vocabulary_is_refused() {
    let device = Device::flex();
    let model = small().init(&device);
    let refusal = model.try_forward(EncoderInput::new(tokens(&[&[5, 50]], &device)));
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "`tokens` is 50; accepted: 0 to 49"
    );
}

#[test]
fn padding_of_another_shape_than_the_tokens_is_refused() {
    let device = Device::flex();
    let padding = Tensor::<2, Bool>::from_data([[false]], &device);
    let input = EncoderInput::new(tokens(&[&[5, 6]], &device)).with_padding(padding);
    let refusal = small().init(&device).try_forward(input).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "`padding` has shape [1, 1]; accepted: [1, 2]"
    );
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let message = |config: EncoderConfig| {
        let refusal = config.try_init(&Device::flex());
        refusal.unwrap_err().to_string()
    };
    assert_eq!(
        message(EncoderConfig::new(50, 16, 32, 2, 5, 64)),
        "`heads` is 5; accepted: a divisor of the width 32"
    );
    assert_eq!(
        message(small().with_distinct_layers(Some(3))),
        "`distinct_layers` is 3; accepted: a divisor of the 2 layers"
    );
}

#[test]
fn an_unknown_architecture_lists_the_known_ones() {
    let refusal = Encoder::load(golden("vit"), &Device::flex()).unwrap_err();
    let CheckpointError::Architecture {
        found, accepted, ..
    } = refusal
    else {
        panic!("another refusal: {refusal}");
    };
    assert_eq!(found, "the architecture ViTForImageClassification");
    for class in [
        "BertModel",
        "AlbertModel",
        "RoFormerModel",
        "ModernBertModel",
    ] {
        assert!(accepted.contains(&class), "{accepted:?}");
    }
    let refusal = Deberta::load(golden("bert"), &Device::flex()).unwrap_err();
    assert!(refusal.to_string().ends_with("accepted: DebertaV2Model"));
}

#[test]
fn shared_layers_run_as_often_as_there_are_layers() {
    let device = Device::flex();
    let config = EncoderConfig::new(50, 16, 32, 6, 4, 64)
        .with_embedding_size(Some(8))
        .with_distinct_layers(Some(2));
    let model = config.init(&device);
    assert_eq!(model.layers.len(), 2);
    let states = model.hidden_states(&EncoderInput::new(tokens(&[&[5, 6, 7]], &device)));
    assert_eq!(states.unwrap().len(), 7);
}

#[test]
fn clips_text_tower_loads_with_the_prefix_of_older_files() {
    let folder = tempfile::tempdir().unwrap();
    let from = golden("clip_text");
    fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = fs::read(from.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let tensors = tensors.map(|(name, tensor)| (format!("text_model.{name}"), tensor));
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();

    let device = Device::flex();
    let input = || EncoderInput::new(tokens(&[&[97, 5, 6, 98]], &device));
    let older = Encoder::load(folder.path(), &device).unwrap();
    let newer = Encoder::load(&from, &device).unwrap();
    let pooled = |model: Encoder| model.forward(input()).pooled.unwrap().to_data();
    assert_eq!(pooled(older), pooled(newer));
}

#[test]
fn clip_pools_the_first_end_of_text_token_under_both_conventions() {
    let device = Device::flex();
    // 49 is the end of text, the largest number, and the padding too.
    let input = || EncoderInput::new(tokens(&[&[48, 5, 49, 49, 49], &[48, 5, 6, 7, 49]], &device));
    let config = small()
        .with_causal(true)
        .with_pooling(Pooling::EndOfText { token: Some(49) });
    let model = config.clone().init(&device);
    let by_number = model.forward(input());
    let expected = Tensor::cat(
        vec![
            by_number.last_hidden_state.clone().slice([0..1, 2..3]),
            by_number.last_hidden_state.clone().slice([1..2, 4..5]),
        ],
        0,
    );
    let expected = expected.squeeze_dim::<2>(1).to_data();
    assert_eq!(by_number.pooled.unwrap().to_data(), expected);

    let config = config.with_pooling(Pooling::EndOfText { token: None });
    let record = burn::module::Module::into_record(model);
    let older = burn::module::Module::load_record(config.init(&device), record);
    assert_eq!(older.forward(input()).pooled.unwrap().to_data(), expected);
}

#[test]
fn deberta_in_training_computes_the_same_and_teaches_the_learned_distances() {
    for device in devices() {
        let autodiff = device.clone().autodiff();
        let model = Deberta::load(golden("deberta_v2"), &device).unwrap();
        let trained = Deberta::load(golden("deberta_v2"), &autodiff).unwrap();
        let input = |device| EncoderInput::new(tokens(&[&[5, 9, 13, 21, 8, 30, 44]], device));
        let expected = model.forward(input(&device)).last_hidden_state;
        let states = trained.forward(input(&autodiff)).last_hidden_state;
        let tolerance = Tolerance::absolute(1e-5);
        states
            .to_data()
            .assert_approx_eq::<f32>(&expected.to_data(), tolerance);
        let gradients = states.slice_dim(1, 0..1).sum().backward();
        let learned = trained.distances.weight.val().grad(&gradients).unwrap();
        assert!(learned.abs().max().into_scalar::<f32>() > 0.0);
    }
}

#[test]
fn deberta_without_buckets_learns_every_distance() {
    let device = Device::flex();
    let config = DebertaConfig::new(50, 8, 32, 1, 4, 64).with_absolute_positions(None);
    let model = config.init(&device);
    assert_eq!(model.distances.weight.dims(), [16, 32]);
    let long = Tensor::<2, Int>::zeros([1, 20], &device);
    let states = model.forward(EncoderInput::new(long)).last_hidden_state;
    assert_eq!(states.dims(), [1, 20, 32]);
}

/// The names, shapes and bytes of a folder's weights.
pub(super) fn weights(folder: &std::path::Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let mut tensors: Vec<_> = tensors
        .map(|(name, tensor)| (name, tensor.shape().to_vec(), tensor.data().to_vec()))
        .collect();
    tensors.sort();
    tensors
}

#[test]
fn a_saved_encoder_has_the_files_that_it_was_read_from() {
    let device = Device::flex();
    for name in ["bert", "modernbert", "clip_text"] {
        let folder = tempfile::tempdir().unwrap();
        let model = Encoder::load(golden(name), &device).unwrap();
        model.save(folder.path()).unwrap();
        assert_eq!(weights(folder.path()), weights(&golden(name)), "{name}");
        Encoder::load(folder.path(), &device).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let model = Deberta::load(golden("deberta_v2"), &device).unwrap();
    model.save(folder.path()).unwrap();
    assert_eq!(weights(folder.path()), weights(&golden("deberta_v2")));
}
