//! The program as a user meets it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use image::{Rgb, RgbImage};
use safetensors::{Dtype, SafeTensors};
use tempfile::tempdir;

use crate::support::golden;

/// The built program: `ATTENTION_BIN`, or the one beside this test.
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("ATTENTION_BIN") {
        return program.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("it lies in deps");
    let program = folder.join(format!("attention{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "`{}` is not built: cargo build --workspace --bin attention",
        program.display()
    );
    program
}

/// Runs the program, through the software Vulkan where one is set up.
pub fn attention(arguments: &[&str]) -> Output {
    let mut command = match std::env::var_os("ATTENTION_RUNNER") {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(program());
            command
        }
        None => Command::new(program()),
    };
    command
        .args(arguments)
        .output()
        .expect("the program starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

/// A photo of stripes, 60 x 40.
fn photo(folder: &Path) -> PathBuf {
    let photo = folder.join("photo.png");
    let stripes = RgbImage::from_fn(60, 40, |x, y| Rgb([(x * 4) as u8, (y * 6) as u8, 90]));
    stripes.save(&photo).expect("the folder can be written");
    photo
}

#[test]
fn mask_draws_the_tiles_and_counts_them() {
    let folder = tempdir().expect("there is room for a folder");
    let picture = folder.path().join("mask.png");
    let arguments = [
        "mask",
        "sliding-window",
        "--seq",
        "512",
        "--size",
        "64",
        "-o",
    ];
    let output = attention(&[&arguments[..], &[path(&picture)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let counts = "64 tiles of 64 x 64: 0 full, 15 partial, 49 empty; 76.6% skipped";
    assert!(text.contains(counts), "{text}");
    let drawn = image::open(&picture).expect("it is a picture").to_rgb8();
    let (on_diagonal, above) = (drawn.get_pixel(10, 10), drawn.get_pixel(200, 10));
    assert!(on_diagonal.0.iter().max() > above.0.iter().max());
}

#[test]
fn mask_refuses_a_block_that_no_map_has() {
    let output = attention(&["mask", "causal", "--block", "100"]);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(
        text.contains("is 100; accepted: a multiple of 64"),
        "{text}"
    );
}

#[test]
fn devices_lists_every_kind_and_what_auto_takes() {
    let output = attention(&["devices"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for kind in ["cpu", "vulkan", "wgpu", "cuda", "rocm", "metal"] {
        let listed = text
            .lines()
            .any(|line| line.starts_with(&format!("{kind} ")));
        assert!(listed, "{kind} is not in\n{text}");
    }
    assert!(text.contains("`--device auto` takes "), "{text}");
}

#[test]
fn verify_passes_on_the_processor() {
    let output = attention(&["verify", "--device", "cpu", "--filter", "softmax/causal"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert!(text.contains(" 0 failed, 0 skipped"), "{text}");
}

#[test]
fn verify_lists_unknown_goldens_as_skipped_and_fails_when_nothing_was_checked() {
    let folder = tempdir().expect("a scratch folder");
    let unknown = folder.path().join("mechanisms/unheard_of");
    fs::create_dir_all(&unknown).expect("the folder can be written");
    fs::write(unknown.join("io.safetensors"), b"").expect("the folder can be written");
    let goldens = path(folder.path());
    let output = attention(&[
        "verify",
        "--device",
        "cpu",
        "--filter",
        "unheard_of",
        "--goldens",
        goldens,
    ]);
    let text = stdout(&output);
    assert!(
        text.contains("skipped: this mechanism or model is not known"),
        "{text}"
    );
    assert!(text.contains("0 passed, 0 failed, 1 skipped"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn verify_fails_on_a_golden_with_another_answer() {
    let folder = tempdir().expect("a scratch folder");
    let copy = folder.path().join("mechanisms/softcap");
    fs::create_dir_all(&copy).expect("the folder can be written");
    let mut bytes = fs::read(golden("mechanisms/softcap/io.safetensors")).expect("a golden");
    overwrite_last_value(&mut bytes, "out.c2.dv64", 1e3);
    fs::write(copy.join("io.safetensors"), bytes).expect("the folder can be written");
    let goldens = path(folder.path());
    let output = attention(&[
        "verify",
        "--device",
        "cpu",
        "--filter",
        "softcap",
        "--goldens",
        goldens,
    ]);
    let text = stdout(&output);
    let failed: Vec<_> = text.lines().filter(|line| line.contains("FAIL")).collect();
    assert_eq!(failed.len(), 1, "{text}");
    assert!(failed[0].contains("softcap/c2") && failed[0].contains("dv"));
    assert_eq!(output.status.code(), Some(1));
}

/// In a tensor of 64-bit numbers of a safetensors file.
fn overwrite_last_value(file: &mut [u8], tensor: &str, value: f64) {
    let parsed = SafeTensors::deserialize(file).expect("a safetensors file");
    let data = parsed.tensor(tensor).expect("the file has the tensor");
    assert_eq!(data.dtype(), Dtype::F64);
    let end = data.data().as_ptr_range().end as usize - file.as_ptr() as usize;
    file[end - 8..end].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn see_draws_the_attention_of_a_model_over_a_photo() {
    let folder = tempdir().expect("a scratch folder");
    let (photo, picture) = (photo(folder.path()), folder.path().join("out.png"));
    let model = golden("models/dinov2");
    let output = attention(&[
        "see",
        path(&photo),
        "--model",
        path(&model),
        "--device",
        "cpu",
        "-o",
        path(&picture),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains(path(&picture)));
    let drawn = image::open(&picture)
        .expect("a picture was written")
        .into_rgb8();
    let mut colours: Vec<_> = drawn.pixels().map(|pixel| pixel.0).collect();
    colours.sort_unstable();
    colours.dedup();
    assert!(
        colours.len() > 100,
        "the picture has {} colours",
        colours.len()
    );
}

/// What `see` says when it refuses.
fn refusal(photo: &Path, model: &Path, device: &str) -> String {
    let output = attention(&[
        "see",
        path(photo),
        "--model",
        path(model),
        "--device",
        device,
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    stderr(&output)
}

#[test]
fn see_refuses_a_jpeg_that_is_not_one() {
    let folder = tempdir().expect("a scratch folder");
    let fake = folder.path().join("photo.jpg");
    fs::write(&fake, b"not a photo").expect("the folder can be written");
    let message = refusal(&fake, &golden("models/dinov2"), "cpu");
    assert!(
        message.contains("photo.jpg` is not a whole image; accepted: JPEG and PNG"),
        "{message}"
    );
}

#[test]
fn see_refuses_a_model_folder_of_another_architecture() {
    let folder = tempdir().expect("a scratch folder");
    let model = folder.path().join("bert");
    fs::create_dir(&model).expect("the folder can be written");
    fs::write(
        model.join("config.json"),
        r#"{"architectures": ["BertModel"]}"#,
    )
    .expect("the folder can be written");
    let message = refusal(&photo(folder.path()), &model, "cpu");
    assert!(
        message.contains("describes the architecture BertModel; accepted: "),
        "{message}"
    );
}

#[test]
fn see_refuses_a_truncated_safetensors_file() {
    let folder = tempdir().expect("a scratch folder");
    let model = folder.path().join("dinov2");
    fs::create_dir(&model).expect("the folder can be written");
    let original = golden("models/dinov2");
    fs::copy(original.join("config.json"), model.join("config.json")).expect("a golden");
    let weights = fs::read(original.join("model.safetensors")).expect("a golden");
    fs::write(
        model.join("model.safetensors"),
        &weights[..weights.len() / 2],
    )
    .expect("the folder can be written");
    let message = refusal(&photo(folder.path()), &model, "cpu");
    assert!(
        message.contains("model.safetensors` is not a whole safetensors file: "),
        "{message}"
    );
}

#[test]
fn see_refuses_a_device_that_is_absent_with_those_that_are_there() {
    let folder = tempdir().expect("a scratch folder");
    let message = refusal(&photo(folder.path()), &golden("models/dinov2"), "cuda");
    assert!(
        message.contains("`device` is cuda, which is not "),
        "{message}"
    );
    assert!(message.contains("there is: cpu"), "{message}");
}
