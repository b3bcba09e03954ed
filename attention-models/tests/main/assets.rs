//! The small models that come with the repository.

use std::path::{Path, PathBuf};

use attention_models::models::{
    decoder::Decoder, diffusion::UNet2DModel, tokenizer::Tokenizer, vit::VisionTransformer,
};
use attention_models::training::{Digits, Drawing, Hand, Mnist};
use burn::tensor::{Device, Int, Tensor, activation::log_softmax};

use crate::training::bars;

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../assets")
        .join(name)
}

#[test]
fn digits_that_one_model_draws_are_read_by_the_other_as_asked() {
    let device = Device::flex();
    let [painter, reader] = ["digits-unet", "digits-vit"].map(asset);
    let painter = UNet2DModel::load(&painter, &device).unwrap();
    let reader = VisionTransformer::load(&reader, &device).unwrap();
    let asked: Vec<u8> = (0..20).map(|digit| digit % 10).collect();
    let hand = Hand {
        steps: 25,
        ..Hand::default()
    };
    let drawn = Drawing::draw(&painter, &asked, hand).unwrap();
    let answers = Digits::read(&reader, drawn);
    let right = answers.iter().zip(&asked).filter(|(a, b)| a == b).count();
    assert!(right >= 18, "{answers:?}");
}

#[test]
fn a_drawn_digit_is_read_as_the_same_digit_of_the_data_is() {
    let device = Device::flex();
    let data = tempfile::tempdir().unwrap();
    let digits = Mnist::load(bars(data.path())).unwrap().train;
    let reader = VisionTransformer::load(&asset("digits-vit"), &device).unwrap();
    let indices: Vec<usize> = (0..digits.len()).collect();
    let drawn = digits.signed_batch(&indices, &device);
    let logits = reader.forward(digits.batch(&indices, &device)).logits;
    let answers = logits.unwrap().argmax(1).into_data();
    let answers: Vec<u8> = answers.iter::<i64>().map(|answer| answer as u8).collect();
    assert_eq!(Digits::read(&reader, drawn), answers);
    assert!(
        answers.iter().any(|answer| *answer != answers[0]),
        "{answers:?}"
    );
}

#[test]
fn the_text_model_is_little_surprised_by_a_play() {
    let device = Device::flex();
    let folder = asset("shakespeare-llama");
    let model = Decoder::load(&folder, &device).unwrap();
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let surprise = |text: &str| {
        let ids = tokenizer.encode(text).unwrap().ids;
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let length = ids.len();
        let tokens = Tensor::<1, Int>::from_data(ids.as_slice(), &device);
        let logits = model
            .forward(tokens.clone().unsqueeze())
            .squeeze_dim::<2>(0);
        let next = tokens.slice_dim(0, 1..length).unsqueeze_dim::<2>(1);
        let logits = log_softmax(logits.slice_dim(0, 0..length - 1), 1);
        -logits.gather(1, next).mean().into_scalar::<f32>()
    };
    let play = "KING RICHARD III:\nWhat, is he dead? Then bring me to the king,\n\
                And let the lords of all the land attend.\n";
    let scrambled: String = play.chars().rev().collect();
    assert!(surprise(play) < 2.0, "{}", surprise(play));
    assert!(surprise(&scrambled) > surprise(play) + 1.0);
}
