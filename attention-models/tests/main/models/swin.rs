use attention_models::models::checkpoint::CheckpointError;
use attention_models::models::swin::{SwinConfig, SwinTransformer, SwinVersion};
use attention_models::ops::AttentionError;
use burn::tensor::{Device, Distribution, Tensor};

use super::{golden, passes};

const OUTPUTS: [&str; 9] = [
    "attentions.0",
    "attentions.1",
    "hidden_states.0",
    "hidden_states.1",
    "hidden_states.2",
    "logits",
    "reshaped_hidden_states.0",
    "reshaped_hidden_states.1",
    "reshaped_hidden_states.2",
];

/// Two stages with windows of 4 on a grid of 16.
fn small(version: SwinVersion) -> SwinConfig {
    SwinConfig::new(32, 2, 16, vec![2, 2], vec![2, 4], 4)
        .with_version(version)
        .with_labels(Some(5))
}

#[test]
fn swin_computes_what_transformers_computes() {
    passes("swin", &OUTPUTS);
}

#[test]
fn swin_v2_computes_what_transformers_computes() {
    passes("swinv2", &OUTPUTS);
}

#[test]
fn probabilities_in_a_window_sum_to_one() {
    let device = Device::flex();
    let model = small(SwinVersion::V1).init(&device);
    let image = Tensor::random([2, 3, 32, 32], Distribution::Default, &device);
    let states = model.hidden_states(image).unwrap();
    for block in 0..2 {
        let map = model.stages[0].window_attention(states[0].clone(), block);
        let map = map.unwrap();
        assert_eq!(map.dims(), [2 * 16, 2, 16, 16]);
        let sums = map.sum_dim(3).into_data().try_to_vec::<f32>().unwrap();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
    let error = model.stages[0]
        .window_attention(states[0].clone(), 2)
        .unwrap_err();
    assert_eq!(error.to_string(), "`block` is 2; accepted: 0 to 1");
}

/// Of the first block a window is 4 by 4; the second, shifted, carries what is in it two tokens on.
#[test]
fn a_change_reaches_the_neighbouring_windows_only_in_a_shifted_block() {
    let device = Device::flex();
    for version in [SwinVersion::V1, SwinVersion::V2] {
        let model = small(version).init(&device);
        let stage = &model.stages[0];
        let tokens = Tensor::<4>::random([1, 16, 16, 16], Distribution::Default, &device);
        let other = Tensor::<4>::random([1, 1, 1, 16], Distribution::Default, &device);
        let changed = tokens
            .clone()
            .slice_assign([0..1, 5..6, 5..6, 0..16], other);
        let reached = |block: usize| -> Vec<[usize; 2]> {
            let difference = stage.tokens_before(tokens.clone(), block)
                - stage.tokens_before(changed.clone(), block);
            let difference = difference.abs().sum_dim(3).into_data();
            let difference = difference.try_to_vec::<f32>().unwrap();
            let places = difference.iter().enumerate().filter(|(_, by)| **by > 0.0);
            places.map(|(at, _)| [at / 16, at % 16]).collect()
        };
        assert_eq!(reached(0), [[5, 5]]);
        let window = |from: usize, to: usize| -> Vec<[usize; 2]> {
            (from..to)
                .flat_map(|y| (from..to).map(move |x| [y, x]))
                .collect()
        };
        assert_eq!(reached(1), window(4, 8), "{version:?}");
        // Shifted windows begin at 2, 6, 10 and touch the tokens 4..8 in two places.
        assert_eq!(reached(2), window(2, 10), "{version:?}");
    }
}

#[test]
fn images_of_any_size_are_taken_and_empty_ones_refused() {
    let device = Device::flex();
    for version in [SwinVersion::V1, SwinVersion::V2] {
        let model = small(version).init(&device);
        // 11 by 8 patches, filled up to 12 by 8; then 6 by 4.
        let image = Tensor::zeros([1, 3, 21, 16], &device);
        let output = model.try_forward(image).unwrap();
        assert_eq!(output.last_hidden_state.dims(), [1, 6, 4, 32]);
        for shape in [[1, 3, 0, 16], [0, 3, 16, 16], [1, 1, 16, 16]] {
            let error = model
                .try_forward(Tensor::zeros(shape, &device))
                .unwrap_err();
            assert!(matches!(
                error,
                AttentionError::Shape {
                    argument: "pixel_values",
                    ..
                }
            ));
        }
    }
}

#[test]
fn gradients_reach_what_positions_are_learned_by() {
    let device = Device::flex().autodiff();
    let image = Tensor::random([1, 3, 32, 32], Distribution::Default, &device);
    let magnitude = |gradient: Option<f32>| assert!(gradient.unwrap() > 0.0);
    for version in [SwinVersion::V1, SwinVersion::V2] {
        let model = small(version).init(&device);
        let loss = model.forward(image.clone()).logits.unwrap().square().sum();
        let gradients = loss.backward();
        let attention = &model.stages[0].blocks[1].attention;
        if let Some(table) = &attention.position_table {
            let gradient = table.val().grad(&gradients);
            magnitude(gradient.map(|table| table.abs().sum().into_scalar()));
        }
        if let Some(cosine) = &attention.cosine {
            let gradient = cosine.outer.weight.val().grad(&gradients);
            magnitude(gradient.map(|weight| weight.abs().sum().into_scalar()));
            let gradient = cosine.logit_scale.val().grad(&gradients);
            magnitude(gradient.map(|scale| scale.abs().sum().into_scalar()));
        }
    }
}

#[test]
fn a_saved_model_is_read_back_as_it_was() {
    let device = Device::flex();
    for version in [SwinVersion::V1, SwinVersion::V2] {
        let folder = tempfile::tempdir().unwrap();
        let model = small(version).init(&device);
        model.save(folder.path()).unwrap();
        let read = SwinTransformer::load(folder.path(), &device).unwrap();
        assert_eq!(read.config(), model.config());
        let image = Tensor::random([1, 3, 32, 32], Distribution::Default, &device);
        let expected = model.forward(image.clone()).logits.unwrap().into_data();
        let given = read.forward(image).logits.unwrap().into_data();
        given.assert_eq(&expected, true);
    }
}

#[test]
fn sizes_and_folders_that_do_not_fit_are_refused() {
    let refused = |config: SwinConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    let mut config = small(SwinVersion::V1);
    config.heads = vec![2];
    assert_eq!(
        refused(config),
        "`heads` is [2]; accepted: a number for each of 2 stages"
    );
    let mut config = small(SwinVersion::V1);
    config.heads = vec![2, 5];
    assert_eq!(
        refused(config),
        "`heads` is 5; accepted: a divisor of 32, the width of stage 1"
    );
    let error = SwinTransformer::load(golden("vit"), &Device::flex()).unwrap_err();
    let CheckpointError::Architecture { accepted, .. } = error else {
        panic!("{error}");
    };
    assert!(accepted.contains(&"Swinv2ForImageClassification"));
}
