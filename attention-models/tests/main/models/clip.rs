use attention_models::models::vit::VisionTransformer;
use burn::tensor::{Device, Tensor};

use super::{golden, passes};

#[test]
fn both_towers_of_clip_compute_what_transformers_computes() {
    passes("clip", &["image_embeds", "logits_per_image", "text_embeds"]);
}

#[test]
fn the_vision_tower_of_a_folder_of_both_is_a_vision_transformer() {
    let device = Device::flex();
    let model = VisionTransformer::load(&golden("clip"), &device).unwrap();
    let output = model.forward(Tensor::zeros([1, 3, 32, 32], &device));
    assert_eq!(output.logits.unwrap().dims(), [1, 16]);
}
