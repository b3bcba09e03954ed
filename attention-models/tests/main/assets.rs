//! The small models that come with the repository.

use std::path::{Path, PathBuf};

use attention_models::models::{
    checkpoint::Weights,
    decoder::Decoder,
    diffusion::{
        Noise, UNet2DModel,
        schedulers::{BetaSchedule, DdimConfig, NoiseScheduleConfig, Prediction, Scheduler},
    },
    generation::{GenerationConfig, Prompt, generate},
    tokenizer::Tokenizer,
    vit::VisionTransformer,
};
use attention_models::training::{Digits, Drawing, Hand, Mnist};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};

use crate::training::bars;

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../assets")
        .join(name)
}

/// What transformers and diffusers compute with the model, and of what.
struct Golden {
    weights: Weights,
    device: Device,
}

impl Golden {
    fn of(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/assets");
        Self {
            weights: Weights::open(&folder.join(format!("{name}.safetensors"))).unwrap(),
            device: Device::flex(),
        }
    }

    fn data(&self, name: &str) -> TensorData {
        self.weights.data().unwrap().remove(name).unwrap()
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        Tensor::from_data(self.data(name), &self.device)
    }

    fn integers<const D: usize>(&self, name: &str) -> Tensor<D, Int> {
        Tensor::from_data(self.data(name), &self.device)
    }

    /// Within 1e-4 of the largest number, as the goldens of the families are.
    fn holds<const D: usize>(&self, given: Tensor<D>, name: &str) {
        let expected = self.tensor::<D>(name);
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let error = (given - expected).abs().max().into_scalar::<f32>();
        assert!(error <= 1e-4 * largest, "{name}: {error} of {largest}");
    }
}

#[test]
fn the_reader_of_digits_computes_what_transformers_computes_with_it() {
    let golden = Golden::of("digits-vit");
    let model = VisionTransformer::load(asset("digits-vit"), &golden.device).unwrap();
    let output = model.forward(golden.tensor("in.pixel_values"));
    golden.holds(output.last_hidden_state, "out.last_hidden_state");
    golden.holds(output.logits.unwrap(), "out.logits");
}

#[test]
fn the_writer_of_plays_computes_and_writes_what_transformers_does_with_it() {
    let golden = Golden::of("shakespeare-llama");
    let model = Decoder::load(asset("shakespeare-llama"), &golden.device).unwrap();
    let tokens = golden.integers::<2>("in.input_ids");
    golden.holds(model.forward(tokens.clone()), "out.logits");

    let ids = |tokens: TensorData| tokens.iter::<i64>().collect::<Vec<_>>();
    let prompt = ids(tokens.slice_dim(1, 0..16).into_data());
    let state = Prompt::left_padded(std::slice::from_ref(&prompt), 0).unwrap();
    let cache = model.cache(&state, 24).unwrap();
    let answer = generate(&model, state, cache, GenerationConfig::new(24)).unwrap();
    assert_eq!(
        [prompt, answer[0].clone()].concat(),
        ids(golden.data("out.generated"))
    );
}

#[test]
fn the_painter_of_digits_computes_and_draws_what_diffusers_does_with_it() {
    let golden = Golden::of("digits-unet");
    let model = UNet2DModel::load(asset("digits-unet"), &golden.device).unwrap();
    let times = golden.integers::<1>("in.timesteps").float();
    let classes = golden.integers::<1>("in.class_labels");
    let output = model.forward(golden.tensor("in.sample"), times, Some(classes));
    golden.holds(output, "out.output");

    let noise = NoiseScheduleConfig::new().with_beta_schedule(BetaSchedule::SquaredCosine);
    let mut scheduler = DdimConfig::new()
        .with_noise(noise)
        .with_prediction(Prediction::Velocity)
        .with_clipped_noise(true)
        .try_init(10)
        .unwrap();
    let classes = Tensor::<1, Int>::from_data([3, 7, 10, 10], &golden.device);
    let expected = golden.tensor::<5>("out.steps");
    let mut sample = golden.tensor::<4>("in.start");
    for step in 0..10 {
        let times = Tensor::full([4], scheduler.timesteps()[step], &golden.device);
        let both = Tensor::cat(vec![sample.clone(); 2], 0);
        let output = model.forward(both, times, Some(classes.clone()));
        let [asked, any] = [0, 2].map(|at| output.clone().slice_dim(0, at..at + 2));
        let guided = any.clone() + (asked - any) * 2.0;
        sample = scheduler.step(guided, step, sample, &mut Noise::new(0));
        let expected = expected.clone().slice_dim(0, step..step + 1).squeeze_dim(0);
        let error = (sample.clone() - expected).abs().max().into_scalar::<f32>();
        assert!(error < 1e-4, "step {step}: {error}");
    }
}

#[test]
fn digits_that_one_model_draws_are_read_by_the_other_as_asked() {
    let device = Device::flex();
    let [painter, reader] = ["digits-unet", "digits-vit"].map(asset);
    let painter = UNet2DModel::load(painter, &device).unwrap();
    let reader = VisionTransformer::load(reader, &device).unwrap();
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
    let reader = VisionTransformer::load(asset("digits-vit"), &device).unwrap();
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
