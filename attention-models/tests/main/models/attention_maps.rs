use attention_models::models::{checkpoint::Weights, vit::VisionTransformer};
use attention_models::ops::AttentionError;
use burn::tensor::{Device, Tensor, TensorData};

use super::golden;
use crate::support::devices;

/// The images of a golden and its attention probabilities `[layers, batch, heads, tokens, tokens]`.
fn images_and_attentions(name: &str, device: &Device) -> (Tensor<4>, TensorData) {
    let path = golden(name).join("io.safetensors");
    let mut io = Weights::open(&path).unwrap().data().unwrap();
    let images = Tensor::from_data(io.remove("in.pixel_values").unwrap(), device);
    (images, io.remove("out.attentions").unwrap())
}

fn assert_close(given: Tensor<1>, expected: &[f32]) {
    let given = given.into_data();
    let given: &[f32] = given.as_slice().unwrap();
    assert_eq!(given.len(), expected.len());
    for (given, expected) in given.iter().zip(expected) {
        assert!((given - expected).abs() < 1e-5, "{given} is not {expected}");
    }
}

#[test]
fn class_attention_is_the_class_row_of_the_chosen_layer() {
    for (name, device) in ["vit", "deit", "dinov2", "clip_vision"]
        .into_iter()
        .flat_map(|name| devices().into_iter().map(move |device| (name, device)))
    {
        let (images, attentions) = images_and_attentions(name, &device);
        let model = VisionTransformer::load(golden(name), &device).unwrap();
        let [layers, batch, heads, tokens, _] = attentions.shape().dims();
        let all: &[f32] = attentions.as_slice().unwrap();
        for layer in 0..layers {
            let rows = model.class_attention(images.clone(), layer).unwrap();
            assert_eq!(rows.dims(), [batch, heads, tokens]);
            let expected: Vec<f32> = (0..batch * heads)
                .flat_map(|matrix| {
                    let start = (layer * batch * heads + matrix) * tokens * tokens;
                    all[start..start + tokens].to_vec()
                })
                .collect();
            assert_close(rows.reshape([batch * heads * tokens]), &expected);
        }
    }
}

/// The whole matrices, multiplied from the first layer to the last.
fn rollout_by_matrices(attentions: &TensorData) -> Vec<f32> {
    let [layers, batch, heads, tokens, _] = attentions.shape().dims();
    let all: &[f32] = attentions.as_slice().unwrap();
    let at = |layer, image, i, j| {
        let head = |head: usize| {
            let matrix = (layer * batch + image) * heads + head;
            f64::from(all[(matrix * tokens + i) * tokens + j])
        };
        let mean = (0..heads).map(head).sum::<f64>() / heads as f64;
        0.5 * mean + 0.5 * f64::from(u8::from(i == j))
    };
    let mut class_rows = Vec::new();
    for image in 0..batch {
        let mut product = vec![vec![0.0; tokens]; tokens];
        (0..tokens).for_each(|i| product[i][i] = 1.0);
        for layer in 0..layers {
            product = (0..tokens)
                .map(|i| {
                    let row = |j: usize| {
                        (0..tokens)
                            .map(|k| at(layer, image, i, k) * product[k][j])
                            .sum()
                    };
                    (0..tokens).map(row).collect()
                })
                .collect();
        }
        class_rows.extend(product[0].iter().map(|value| *value as f32));
    }
    class_rows
}

#[test]
fn rollout_is_the_class_row_of_the_product_of_all_layers() {
    for (name, device) in ["vit", "deit"]
        .into_iter()
        .flat_map(|name| devices().into_iter().map(move |device| (name, device)))
    {
        let (images, attentions) = images_and_attentions(name, &device);
        let model = VisionTransformer::load(golden(name), &device).unwrap();
        let rollout = model.class_rollout(images).unwrap();
        let [batch, tokens] = rollout.dims();
        assert_close(
            rollout.reshape([batch * tokens]),
            &rollout_by_matrices(&attentions),
        );
    }
}

#[test]
fn a_rollout_of_more_tokens_than_one_block_of_rows_sums_to_one() {
    let device = Device::flex();
    let model = VisionTransformer::load(golden("dinov2"), &device).unwrap();
    let image = Tensor::random(
        [1, 3, 136, 144],
        burn::tensor::Distribution::Default,
        &device,
    );
    let rollout = model.class_rollout(image).unwrap();
    assert_eq!(rollout.dims(), [1, 1 + 17 * 18]);
    let sum: f32 = rollout.sum().into_scalar();
    assert!((sum - 1.0).abs() < 1e-4, "the rollout sums to {sum}");
}

#[test]
fn a_layer_that_is_not_there_is_refused_with_the_layers_that_are() {
    let device = Device::flex();
    let model = VisionTransformer::load(golden("vit"), &device).unwrap();
    let error = model
        .class_attention(Tensor::zeros([1, 3, 32, 32], &device), 2)
        .unwrap_err();
    assert_eq!(
        error,
        AttentionError::Value {
            argument: "layer",
            given: "2".into(),
            accepted: "0 to 1".into()
        }
    );
}
