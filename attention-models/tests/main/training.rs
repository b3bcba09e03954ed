//! Training: what a kill leaves, and what is refused.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use attention_models::models::{
    checkpoint::Weights,
    decoder::Decoder,
    tokenizer::Tokenizer,
    vit::{VisionTransformer, VisionTransformerConfig},
};
use attention_models::training::{
    Batches, Characters, Digits, Drawing, Event, Hand, Mnist, Random, Task, Text, Trainer,
    TrainingConfig, TrainingError,
};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

const DIGITS: usize = 40;

/// A folder of MNIST's files: ten bars at ten places.
pub fn bars(folder: &Path) -> &Path {
    for (part, count) in [("train", DIGITS), ("t10k", 10)] {
        let label = |index: usize| (index % 10) as u8;
        let pixels = (0..count).flat_map(|index| {
            let row = 2 + 2 * usize::from(label(index));
            (0..28 * 28).map(move |at| if at / 28 == row { 255 - index as u8 } else { 0 })
        });
        let labels = (0..count).map(label);
        let head = |axes: u8| [0, 0, 8, axes, 0, 0, 0, count as u8];
        let images = [&head(3)[..], &[0, 0, 0, 28, 0, 0, 0, 28]].concat();
        let images: Vec<u8> = images.into_iter().chain(pixels).collect();
        let labels: Vec<u8> = head(1).into_iter().chain(labels).collect();
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
    folder
}

fn task(data: &Path, device: &Device) -> Digits {
    let mnist = Mnist::load(bars(data)).unwrap();
    let model = VisionTransformerConfig::new(28, 7, 16, 1, 2, 32);
    Digits::new(mnist, 8, 5, device).with_model(model)
}

fn short_run(steps: usize) -> TrainingConfig {
    TrainingConfig::new(steps)
        .with_warmup(2)
        .with_evaluate_every(4)
        .with_checkpoint_every(3)
}

fn bits(model: &VisionTransformer) -> Vec<TensorData> {
    let layer = &model.layers[0];
    let head = model.head.as_ref().unwrap();
    [
        layer.attention.query.weight.val().into_data(),
        layer.mlp.outer.weight.val().into_data(),
        head.weight.val().into_data(),
    ]
    .to_vec()
}

#[test]
fn a_stopped_run_goes_on_to_the_bits_of_one_that_was_not() {
    let device = Device::flex();
    let [data, whole, parts] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let task = task(data.path(), &device);
    let trainer = |folder: &Path| Trainer::new(short_run(11), folder, &device);
    let die_at = |last: usize| {
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut die = |event: Event<'_>| {
                if matches!(event, Event::Step { step, .. } if step == last) {
                    panic!("killed");
                }
            };
            let _ = trainer(parts.path()).run(&task, &mut die);
        }));
        assert!(killed.is_err());
    };
    // Both begin as one: other tests draw from the device's generator at the same time.
    die_at(4);
    let [from, to] = [&parts, &whole].map(|run| run.path().join("step-3"));
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let whole = trainer(whole.path()).run(&task, &mut |_| {}).unwrap();

    // 2 steps behind its checkpoint.
    die_at(8);
    let mut resumed_at = None;
    let mut note = |event: Event<'_>| {
        if let Event::Resumed(step) = event {
            resumed_at = Some(step);
        }
    };
    let resumed = trainer(parts.path()).run(&task, &mut note).unwrap();
    assert_eq!(resumed_at, Some(6));
    assert_eq!(resumed.history, whole.history);
    assert_eq!(resumed.history.len(), 3);
    for (resumed, whole) in bits(&resumed.model).iter().zip(&bits(&whole.model)) {
        resumed.assert_eq(whole, true);
    }
}

#[test]
fn a_model_that_computes_in_bf16_learns_and_keeps_its_parameters_in_f32() {
    let device = Device::flex();
    let [data, run] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = task(data.path(), &device);
    // How far the loss falls; also the trained model's parameters.
    let trained = |dtype| {
        let mut losses = Vec::new();
        let mut note = |event: Event<'_>| {
            if let Event::Step { loss, .. } = event {
                losses.push(loss);
            }
        };
        let folder = run.path().join(format!("{dtype:?}"));
        let trainer = Trainer::new(short_run(60).with_dtype(dtype), &folder, &device);
        let model = trainer.run(&task, &mut note).unwrap().model;
        (losses[0] - losses[59], bits(&model))
    };
    let (fall, _) = trained(FloatDType::F32);
    let (fall_in_bf16, parameters) = trained(FloatDType::BF16);
    assert!(
        fall > 0.0 && fall_in_bf16 > 0.7 * fall,
        "{fall_in_bf16}, {fall}"
    );
    assert!(parameters.iter().all(|data| data.dtype() == DType::F32));

    let config = short_run(60).with_dtype(FloatDType::F16);
    let error = Trainer::new(config, run.path(), &device).run(&task, &mut |_| {});
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "`dtype` is F16; accepted: F32, BF16");
}

#[test]
fn a_run_of_other_settings_is_refused_in_the_same_folder() {
    let device = Device::flex();
    let [data, run] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = task(data.path(), &device);
    let trainer = |config| Trainer::new(config, run.path(), &device);
    trainer(short_run(3)).run(&task, &mut |_| {}).unwrap();
    let error = trainer(short_run(4)).run(&task, &mut |_| {}).unwrap_err();
    assert!(matches!(error, TrainingError::OtherRun { .. }), "{error}");
    // The finished run is not made again.
    let mut steps = 0;
    let mut count = |event: Event<'_>| steps += usize::from(matches!(event, Event::Step { .. }));
    let finished = trainer(short_run(3)).run(&task, &mut count).unwrap();
    assert_eq!(finished.metrics.len(), 1);
    assert_eq!(steps, 0);
}

#[test]
fn numbers_and_data_that_make_no_sense_are_refused() {
    let device = Device::flex();
    let [data, run] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let task = task(data.path(), &device);
    let refused = |config| {
        let trainer = Trainer::new(config, run.path(), &device);
        trainer.run(&task, &mut |_| {}).unwrap_err().to_string()
    };
    assert_eq!(
        refused(TrainingConfig::new(0)),
        "`steps` is 0; accepted: at least 1"
    );
    assert_eq!(
        refused(short_run(5).with_learning_rate(f64::NAN)),
        "`learning_rate` is NaN; accepted: above 0, at most 1"
    );
    let images = data.path().join("train-images-idx3-ubyte");
    let whole = fs::read(&images).unwrap();
    fs::write(&images, &whole[..whole.len() - 1]).unwrap();
    let error = Mnist::load(data.path()).unwrap_err().to_string();
    assert!(error.contains("31359 bytes of data"), "{error}");
    fs::remove_file(&images).unwrap();
    let error = Mnist::load(data.path()).unwrap_err().to_string();
    assert!(error.contains("cargo xtask data fetch mnist"), "{error}");
}

#[test]
fn a_trained_model_is_a_folder_that_is_read_back() {
    let device = Device::flex();
    let [data, run, out] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let task = task(data.path(), &device);
    let trainer = Trainer::new(short_run(3), run.path(), &device);
    let outcome = trainer.run(&task, &mut |_| {}).unwrap();
    task.save(&outcome.model, out.path()).unwrap();
    let file = Weights::open(&out.path().join("model.safetensors")).unwrap();
    let patches = "vit.embeddings.patch_embeddings.projection.weight";
    // A convolution, as transformers has it.
    assert_eq!(file.data().unwrap()[patches].shape().dims(), [16, 1, 7, 7]);
    let read = VisionTransformer::load(out.path(), &device).unwrap();
    assert_eq!(read.config(), task.model());
    for (read, trained) in bits(&read).iter().zip(&bits(&outcome.model)) {
        read.assert_eq(trained, true);
    }
}

#[test]
fn digits_are_drawn_the_same_by_the_same_hand() {
    let device = Device::flex();
    let data = tempfile::tempdir().unwrap();
    let mnist = Mnist::load(bars(data.path())).unwrap();
    let model = Drawing::new(mnist, 2, 5, &device).init(&device);
    let hand = Hand {
        steps: 2,
        ..Hand::default()
    };
    let draw = |hand| Drawing::draw(&model, &[3, 3, 8], hand).map(Tensor::into_data);
    let drawn = draw(hand).unwrap();
    assert_eq!(drawn.shape().dims(), [3, 1, 28, 28]);
    drawn.assert_eq(&draw(hand).unwrap(), true);
    assert_ne!(drawn, draw(Hand { seed: 1, ..hand }).unwrap());
    assert_ne!(
        drawn,
        draw(Hand {
            guidance: 5.0,
            ..hand
        })
        .unwrap()
    );
    assert!(draw(Hand { steps: 0, ..hand }).is_err());
}

#[test]
fn a_trained_text_model_is_a_llama_with_a_tokenizer_of_characters() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let text = Text::new(&"to be, or \"not\" to be\n".repeat(50)).unwrap();
    let task = Characters::new(text, 2, 16, 5, &device);
    let model = task.init(&device);
    task.save(&model, folder.path()).unwrap();

    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    let encoded = tokenizer.encode("not to \"be\"\n").unwrap();
    assert_eq!(encoded.tokens.concat(), "not to \"be\"\n");
    assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "not to \"be\"\n");
    let ids: Vec<i32> = encoded.ids.iter().map(|id| *id as i32).collect();
    let tokens = Tensor::<1, Int>::from_data(ids.as_slice(), &device).unsqueeze::<2>();

    let read = Decoder::load(folder.path(), &device).unwrap();
    let [read, made] = [read, model].map(|model| model.forward(tokens.clone()).into_data());
    read.assert_eq(&made, true);
}

#[test]
fn a_made_model_that_is_no_llama_is_not_written_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = Text::new(&"abc".repeat(400)).unwrap();
    let task = Characters::new(text, 2, 16, 5, &Device::flex());
    let model = task
        .model()
        .clone()
        .with_logit_softcap(Some(30.0))
        .init(&Device::flex());
    let error = model.save(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is no Llama"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_example_has_its_turn_in_every_epoch() {
    let batches = Batches::new(12, 4, 9);
    for epoch in 0..3 {
        let mut seen: Vec<usize> = (0..3)
            .flat_map(|batch| batches.of(3 * epoch + batch))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
    }
    assert_ne!(batches.of(0), batches.of(3));
}

#[test]
fn random_numbers_have_their_means_and_bounds() {
    let mut random = Random::new(3);
    let count = 20_000;
    let normal: Vec<f32> = (0..count).map(|_| random.normal()).collect();
    let mean = normal.iter().sum::<f32>() / count as f32;
    let square = normal.iter().map(|x| x * x).sum::<f32>() / count as f32;
    assert!(
        mean.abs() < 0.03 && (square - 1.0).abs() < 0.05,
        "{mean} {square}"
    );
    assert!((0..count).all(|_| random.below(7) < 7 && random.uniform() < 1.0));
}

/// The program, killed by the system in the middle of a run.
#[test]
fn a_killed_program_loses_nothing() {
    let [data, whole, parts] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    bars(data.path());
    let train = |folder: &Path| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_attention"));
        program.args(["train", "vit", "--steps", "24", "--batch", "4"]);
        program.args(["--checkpoint-every", "1", "--device", "cpu", "--data"]);
        program.arg(data.path()).arg("--output").arg(folder);
        program
    };
    let output = train(whole.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let mut child = train(parts.path()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    let checkpoint = |step: usize| parts.path().join(format!("step-{step}"));
    while !(2..24).any(|step| checkpoint(step).exists()) {
        assert!(Instant::now() < deadline, "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(
        !child.wait().unwrap().success(),
        "it was too fast to be killed"
    );
    let output = train(parts.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("resumed"),
        "{output:?}"
    );

    for file in [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
    ] {
        let [whole, parts] = [&whole, &parts].map(|run| fs::read(run.path().join(file)).unwrap());
        assert!(whole == parts, "{file} differs");
    }
}
