//! Pictures and landscapes from the command line.

use tempfile::tempdir;

use crate::cli::{attention, path, stderr, stdout};
use crate::support::golden;

/// Runs `attention imagine` with the golden's tiny pipeline, in two steps.
fn imagine(arguments: &[&str]) -> std::process::Output {
    let model = golden("models/stable_diffusion");
    let first = ["imagine", "a photo of a cat", "--model", path(&model)];
    let rest = ["--steps", "2", "--device", "cpu"];
    attention(&[&first[..], &rest[..], arguments].concat())
}

#[test]
fn imagine_draws_a_picture_and_what_each_word_looked_at() {
    let folder = tempdir().expect("there is room for a folder");
    let (picture, maps) = (folder.path().join("cat.png"), folder.path().join("maps"));
    let output = imagine(&["-o", path(&picture), "--maps", path(&maps)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("2 steps"), "{}", stdout(&output));
    let drawn = image::open(&picture).expect("it is a picture");
    assert_eq!((drawn.width(), drawn.height()), (16, 16));
    for word in ["00-a", "01-photo", "02-of", "03-a", "04-cat"] {
        let map = maps.join(format!("{word}.png"));
        assert!(image::open(&map).is_ok(), "{word} has no map");
    }
}

#[test]
fn imagine_draws_the_same_picture_again_and_another_for_another_seed() {
    let folder = tempdir().expect("there is room for a folder");
    let draw = |name: &str, seed: &str| {
        let picture = folder.path().join(name);
        let output = imagine(&["--seed", seed, "-o", path(&picture)]);
        assert!(output.status.success(), "{}", stderr(&output));
        image::open(&picture).expect("it is a picture").to_rgb8()
    };
    let first = draw("first.png", "1");
    assert_eq!(first, draw("again.png", "1"));
    assert_ne!(first, draw("other.png", "2"));
}

#[test]
fn imagine_edits_a_picture_by_its_prompt_and_puts_both_side_by_side() {
    let folder = tempdir().expect("there is room for a folder");
    let picture = folder.path().join("edited.png");
    let edit = ["--edit", "a photo of a dog", "--weight", "dog=2"];
    let output = imagine(&[&edit[..], &["-o", path(&picture)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let drawn = image::open(&picture).expect("it is a picture");
    assert!(drawn.width() > 2 * 16 && drawn.height() == 16);
}

#[test]
fn imagine_refuses_a_word_that_the_prompt_has_not_and_a_size_that_does_not_fit() {
    let output = imagine(&["--weight", "horse=2"]);
    assert!(!output.status.success());
    let text = stderr(&output);
    let refusal = "names `horse`; accepted: a, photo, of, a, cat";
    assert!(text.contains(refusal), "{text}");
    let output = imagine(&["--size", "18x16"]);
    let text = stderr(&output);
    assert!(
        text.contains("`size` is 18 x 16; accepted: multiples of 4"),
        "{text}"
    );
}

#[test]
fn imagine_and_terrain_refuse_folders_of_other_models() {
    let other = golden("models/dit");
    let output = attention(&["imagine", "a cat", "--model", path(&other)]);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("model_index.json"), "{text}");
    let output = attention(&["terrain", "--model", path(&other)]);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("DiTTransformer2DModel"), "{text}");
    assert!(text.contains("accepted: guided-diffusion UNet"), "{text}");
}
