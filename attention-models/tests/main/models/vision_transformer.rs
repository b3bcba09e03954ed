use attention_models::models::vit::{
    Head, RelativePositions, VisionTransformer, VisionTransformerConfig,
};
use attention_models::ops::AttentionError;
use burn::tensor::{Device, Distribution, Tensor};

use super::golden;

fn small() -> VisionTransformerConfig {
    VisionTransformerConfig::new(32, 8, 24, 2, 3, 48)
}

#[test]
fn images_of_another_shape_are_refused_with_the_shapes_that_fit() {
    let device = Device::flex();
    let model = VisionTransformer::load(golden("vit"), &device).unwrap();
    for shape in [
        [1, 3, 33, 32],
        [1, 4, 32, 32],
        [1, 3, 0, 32],
        [0, 3, 32, 32],
    ] {
        let error = model
            .try_forward(Tensor::zeros(shape, &device))
            .unwrap_err();
        let AttentionError::Shape {
            argument,
            given,
            accepted,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((argument, given), ("pixel_values", shape.to_vec()));
        assert!(accepted.contains("multiples of 8"), "{accepted}");
    }
}

#[test]
fn forward_finishes_the_last_hidden_state() {
    let device = Device::flex();
    let model = VisionTransformer::load(golden("deit"), &device).unwrap();
    let image = Tensor::random([2, 3, 32, 32], Distribution::Default, &device);
    let states = model.hidden_states(image.clone()).unwrap();
    assert_eq!(states.len(), model.layers.len() + 1);
    let finished = model.finish(states[2].clone()).logits.unwrap().into_data();
    let forward = model.forward(image).logits.unwrap().into_data();
    forward.assert_eq(&finished, true);
}

#[test]
fn registers_without_positions_stand_between_class_token_and_patches() {
    let device = Device::flex();
    let config = small().with_register_tokens(2);
    let model = config.init(&device);
    let image = Tensor::random([1, 3, 32, 24], Distribution::Default, &device);
    let tokens = model.embeddings.forward(image.clone()).unwrap();
    assert_eq!(tokens.dims(), [1, 1 + 2 + 4 * 3, 24]);
    let registers = model.embeddings.register_tokens.as_ref().unwrap().val();
    let given = tokens.slice_dim(1, 1..3).into_data();
    given.assert_eq(&registers.into_data(), true);
    assert_eq!(model.forward(image).last_hidden_state.dims(), [1, 15, 24]);
}

#[test]
fn the_head_of_dinov2_reads_the_class_token_beside_the_mean_patch() {
    let device = Device::flex();
    let config = small().with_head(Head::ClassAndPatchMean { outputs: 5 });
    let model = config.init(&device);
    let image = Tensor::random([2, 3, 32, 32], Distribution::Default, &device);
    let output = model.forward(image);
    let tokens = output.last_hidden_state;
    let class = tokens.clone().slice_dim(1, 0..1);
    let mean = tokens.slice_dim(1, 1..).mean_dim(1);
    let input = Tensor::cat(vec![class, mean], 2).squeeze_dim::<2>(1);
    let expected = model.head.unwrap().forward(input);
    let given = output.logits.unwrap().into_data();
    given.assert_eq(&expected.into_data(), true);
}

#[test]
fn sizes_from_which_no_model_can_be_made_are_refused() {
    let refused =
        |config: VisionTransformerConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    let mut config = small();
    config.heads = 5;
    assert_eq!(
        refused(config),
        "`heads` is 5; accepted: a divisor of the hidden size 24"
    );
    let mut config = small();
    config.image_size = 7;
    assert_eq!(
        refused(config),
        "`image_size` is 7; accepted: at least the patch size 8"
    );
    let head = Head::ClassAndDistillation { outputs: 5 };
    let error = refused(small().with_head(head));
    assert!(error.contains("or a distillation token"), "{error}");
}

#[test]
fn gradients_reach_every_kind_of_parameter() {
    let device = Device::flex().autodiff();
    let config = small().with_layer_scale(Some(0.1)).with_register_tokens(1);
    let model = config.init(&device);
    let image = Tensor::random([1, 3, 24, 40], Distribution::Default, &device);
    let loss = model.forward(image).last_hidden_state.powi_scalar(2).sum();
    let gradients = loss.backward();
    let layer = &model.layers[0];
    let matrices = [
        &layer.attention.query.weight,
        &layer.attention.value.weight,
        &layer.mlp.inner.weight,
        &model.embeddings.projection.weight,
    ];
    for weight in matrices {
        let gradient = weight.val().grad(&gradients).unwrap();
        assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
    }
    let positions = model
        .embeddings
        .positions
        .as_ref()
        .unwrap()
        .val()
        .grad(&gradients)
        .unwrap();
    assert!(positions.abs().sum().into_scalar::<f32>() > 0.0);
    let scale = layer.scale_mlp.as_ref().unwrap().val();
    let scale = scale.grad(&gradients).unwrap();
    assert!(scale.abs().sum().into_scalar::<f32>() > 0.0);
}

#[test]
fn relative_positions_fit_images_of_the_trained_size_only() {
    let device = Device::flex();
    let model = VisionTransformer::load(golden("beit"), &device).unwrap();
    let error = model
        .try_forward(Tensor::zeros([1, 3, 40, 32], &device))
        .unwrap_err()
        .to_string();
    assert!(error.contains("[batch, 3, 32, 32]"), "{error}");
}

#[test]
fn layers_can_share_one_table_of_relative_positions() {
    let device = Device::flex().autodiff();
    let config = small().with_absolute_positions(false);
    let model = config
        .with_relative_positions(RelativePositions::Shared)
        .init(&device);
    let image = Tensor::random([1, 3, 32, 32], Distribution::Default, &device);
    let loss = model.forward(image).last_hidden_state.square().sum();
    let gradients = loss.backward();
    let table = model.position_table.as_ref().unwrap().table.val();
    assert_eq!(table.dims(), [7 * 7 + 3, 3]);
    let gradient = table.grad(&gradients).unwrap();
    assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
}

#[test]
fn a_saved_model_is_read_back_as_it_was() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let head = Head::ClassToken {
        outputs: 5,
        bias: true,
    };
    let model = small().with_channels(1).with_head(head).init(&device);
    model.save(folder.path()).unwrap();
    let read = VisionTransformer::load(folder.path(), &device).unwrap();
    assert_eq!(read.config(), model.config());
    let image = Tensor::random([1, 1, 32, 32], Distribution::Default, &device);
    let expected = model.forward(image.clone()).logits.unwrap().into_data();
    let given = read.forward(image).logits.unwrap().into_data();
    given.assert_eq(&expected, true);
    let error = small()
        .with_pre_norm(true)
        .init(&device)
        .save(folder.path());
    assert!(error.unwrap_err().to_string().contains("no ViT"));
}
