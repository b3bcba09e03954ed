use attention_models::models::{
    checkpoint::{Checkpoint, CheckpointError},
    clip::Clip,
    vit::VisionTransformer,
};
use burn::tensor::{Device, Tensor};

use super::{golden, passes};

#[test]
fn both_towers_of_clip_compute_what_transformers_computes() {
    passes("clip", &["image_embeds", "logits_per_image", "text_embeds"]);
}

#[test]
fn the_vision_tower_of_a_folder_of_both_is_a_vision_transformer() {
    let device = Device::flex();
    let model = VisionTransformer::load(golden("clip"), &device).unwrap();
    let output = model.forward(Tensor::zeros([1, 3, 32, 32], &device));
    assert_eq!(output.logits.unwrap().dims(), [1, 16]);
}

#[test]
fn a_saved_clip_has_the_configuration_and_the_tensors_of_both_towers() {
    let device = Device::flex();
    let (from, to) = (golden("clip"), tempfile::tempdir().unwrap());
    Clip::load(&from, &device).unwrap().save(to.path()).unwrap();
    let read = |folder: &std::path::Path| {
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.config::<serde_json::Value>()?;
        Ok::<_, CheckpointError>((config, checkpoint.weights()?.data()?))
    };
    let (given, expected) = (read(to.path()).unwrap(), read(&from).unwrap());
    assert_eq!(given, expected);
}
