//! Encoder-decoders.

use attention_models::models::checkpoint::CheckpointError;
use attention_models::models::generation::{BeamConfig, GenerationConfig, LanguageModel};
use attention_models::models::seq2seq::{
    Seq2Seq, Seq2SeqConfig, SequencePositions, Source, StackConfig,
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, Tolerance};

use super::{encoders::weights, golden, passes};
use crate::support::devices;

const OUTPUTS: [&str; 7] = [
    "beam4_ids",
    "cross_attentions",
    "decoder_hidden_states",
    "encoder_hidden_states",
    "encoder_last_hidden_state",
    "generated_ids",
    "logits",
];

#[test]
fn t5_computes_and_generates_what_transformers_does() {
    passes("t5", &OUTPUTS);
}

#[test]
fn marian_computes_and_generates_what_transformers_does() {
    passes("marian", &OUTPUTS);
}

#[test]
fn bart_computes_and_generates_what_transformers_does() {
    passes("bart", &OUTPUTS);
}

#[test]
fn whisper_computes_what_transformers_computes() {
    let outputs: Vec<_> = OUTPUTS
        .into_iter()
        .filter(|name| !name.ends_with("_ids"))
        .collect();
    passes("whisper", &outputs);
}

fn stack() -> StackConfig {
    StackConfig {
        layers: 2,
        heads: 4,
        mlp_size: 64,
        max_positions: Some(16),
    }
}

/// The Transformer of 2017, small.
fn vaswani() -> Seq2SeqConfig {
    Seq2SeqConfig::new(50, 32, stack(), stack())
}

fn tokens(row: &[i64], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(row.to_vec(), [1, row.len()]), device)
}

fn close(a: Tensor<3>, b: Tensor<3>) {
    a.to_data()
        .assert_approx_eq::<f32>(&b.to_data(), Tolerance::absolute(1e-4));
}

#[test]
fn a_target_token_sees_no_later_one() {
    for device in devices() {
        let model = vaswani().init(&device);
        let logits = |target: &[i64]| {
            let source = Source::text(tokens(&[7, 8, 9], &device));
            model.forward(source, tokens(target, &device))
        };
        let short = logits(&[1, 20, 21]);
        let long = logits(&[1, 20, 21, 44]);
        close(long.slice_dim(1, 0..3), short);
    }
}

#[test]
fn token_by_token_the_decoder_computes_what_it_computes_at_once() {
    let relative = SequencePositions::Relative {
        buckets: 8,
        max_distance: 6,
    };
    for device in devices() {
        for config in [vaswani(), vaswani().with_positions(relative)] {
            let model = config.init(&device);
            let source = || Source::text(tokens(&[7, 8, 9], &device));
            let target = [1, 20, 21, 44, 3];
            let expected = model.forward(source(), tokens(&target, &device));
            let memory = model.encode(source()).unwrap();
            let mut state = model.state(&memory, target.len());
            for (step, token) in target.into_iter().enumerate() {
                let logits = model.next_logits(tokens(&[token], &device), &mut state);
                let logits = logits.unwrap().unsqueeze_dim::<3>(1);
                close(logits, expected.clone().slice_dim(1, step..step + 1));
            }
        }
    }
}

#[test]
fn padding_of_the_source_changes_nothing() {
    for device in devices() {
        let model = Seq2Seq::load(golden("marian"), &device).unwrap();
        let target = || tokens(&[0, 20, 21], &device);
        let whole = model.forward(Source::text(tokens(&[7, 8, 9], &device)), target());
        let padding = Tensor::<2, Bool>::from_data([[false, false, false, true]], &device);
        let padded = Source::padded_text(tokens(&[7, 8, 9, 0], &device), padding);
        close(model.forward(padded, target()), whole);
    }
}

#[test]
fn a_search_with_one_beam_finds_what_greed_finds() {
    let device = Device::flex();
    let model = Seq2Seq::load(golden("bart"), &device).unwrap();
    let config = GenerationConfig::new(6);
    let source = || Source::text(tokens(&[7, 8, 9], &device));
    let greedy = model.generate(source(), &config).unwrap();
    let beam = model.beam_search(source(), &config, &BeamConfig::new(1));
    assert_eq!(beam.unwrap(), greedy);
    assert_eq!(greedy[0].len(), 6);
}

#[test]
fn a_checkpoint_says_how_its_targets_begin_and_end() {
    let model = Seq2Seq::load(golden("bart"), &Device::flex()).unwrap();
    let generation = &model.config().generation;
    assert_eq!(generation.start_token, 2);
    assert_eq!(generation.end_tokens, [2]);
    assert_eq!(generation.forced_last, Some(2));
}

#[test]
fn a_target_longer_than_the_position_table_is_refused() {
    let device = Device::flex();
    let model = vaswani().init(&device);
    let long = Tensor::<2, Int>::zeros([1, 17], &device);
    let refusal = model.try_forward(Source::text(tokens(&[7], &device)), long);
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "`target` has shape [1, 17]; accepted: [batch, seq] of 1 to 16 tokens, the model's positions"
    );
}

#[test]
fn text_where_sound_belongs_and_sound_of_other_channels_are_refused() {
    let device = Device::flex();
    let model = Seq2Seq::load(golden("whisper"), &device).unwrap();
    let refusal = model.encode(Source::text(tokens(&[7], &device)));
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "`source` is text; accepted: sound"
    );
    let sound = Tensor::<3>::zeros([1, 9, 40], &device);
    assert_eq!(
        model.encode(Source::Audio(sound)).unwrap_err().to_string(),
        "`source` has shape [1, 9, 40]; accepted: [batch, 8, frames] of 1 to 40 frames"
    );
}

#[test]
fn an_unknown_architecture_lists_the_known_ones() {
    let refusal = Seq2Seq::load(golden("bert"), &Device::flex()).unwrap_err();
    let CheckpointError::Architecture { accepted, .. } = refusal else {
        panic!("another refusal: {refusal}");
    };
    assert_eq!(
        accepted,
        [
            "T5ForConditionalGeneration",
            "MarianMTModel",
            "BartForConditionalGeneration",
            "WhisperForConditionalGeneration",
        ]
    );
}

#[test]
fn a_saved_encoder_decoder_has_the_files_that_it_was_read_from() {
    let device = Device::flex();
    for name in ["t5", "marian", "bart", "whisper"] {
        let folder = tempfile::tempdir().unwrap();
        let model = Seq2Seq::load(golden(name), &device).unwrap();
        model.save(folder.path()).unwrap();
        assert_eq!(weights(folder.path()), weights(&golden(name)), "{name}");
    }
}
