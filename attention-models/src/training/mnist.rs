//! MNIST's files, and digits as a network sees them.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Random, TrainingError};

/// Side of a digit in pixels.
pub const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;
/// Of all digits' bytes over 255.
pub const MEAN: f32 = 0.1307;
pub const DEVIATION: f32 = 0.3081;

/// Handwritten digits (LeCun et al. 1998), those to train on and those to test with.
#[derive(Debug, Clone)]
pub struct Mnist {
    /// To train on.
    pub train: DigitImages,
    /// To test with.
    pub test: DigitImages,
}

/// Digits of 28 by 28 bytes, ink white, and what they are.
#[derive(Debug, Clone)]
pub struct DigitImages {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

/// How a digit is distorted.
#[derive(Debug, Clone, Copy)]
struct Distortion {
    /// From places in the distorted image to places in the original, around the middle.
    matrix: [[f32; 2]; 2],
    shift: [f32; 2],
}

impl Mnist {
    /// Reads the four files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    /// `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte` of a folder: those of the original, or those
    /// that `cargo xtask data fetch mnist` writes.
    ///
    /// # Errors
    ///
    /// [`TrainingError::File`] for a file that is not there, [`TrainingError::Data`] for one of
    /// another format or length.
    pub fn load(folder: &Path) -> Result<Self, TrainingError> {
        Ok(Self {
            train: DigitImages::load(folder, "train")?,
            test: DigitImages::load(folder, "t10k")?,
        })
    }
}

impl DigitImages {
    fn load(folder: &Path, part: &str) -> Result<Self, TrainingError> {
        let images = folder.join(format!("{part}-images-idx3-ubyte"));
        let pixels = read_idx(&images, &[SIDE, SIDE])?;
        let path = folder.join(format!("{part}-labels-idx1-ubyte"));
        let labels = read_idx(&path, &[])?;
        if labels.is_empty() || pixels.len() != labels.len() * PIXELS {
            let reason = format!(
                "{} labels for {} images; accepted: one for each, at least one",
                labels.len(),
                pixels.len() / PIXELS
            );
            return Err(TrainingError::data(&path, reason));
        }
        if let Some(label) = labels.iter().find(|label| **label > 9) {
            let reason = format!("a label is {label}; accepted: 0 to 9");
            return Err(TrainingError::data(&path, reason));
        }
        Ok(Self { pixels, labels })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of a digit, row by row.
    pub fn pixels(&self, index: usize) -> &[u8] {
        &self.pixels[index * PIXELS..(index + 1) * PIXELS]
    }

    /// What a digit is.
    pub fn label(&self, index: usize) -> u8 {
        self.labels[index]
    }

    /// Digits as `[batch, 1, 28, 28]` of mean 0 and deviation 1.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Tensor<4> {
        let values = indices
            .iter()
            .flat_map(|index| self.pixels(*index))
            .map(|byte| normalize(f32::from(*byte)));
        as_images(values.collect(), device)
    }

    /// Digits as `[batch, 1, 28, 28]` from -1 (black) to 1.
    pub fn signed_batch(&self, indices: &[usize], device: &Device) -> Tensor<4> {
        let values = indices
            .iter()
            .flat_map(|index| self.pixels(*index))
            .map(|byte| f32::from(*byte) / 127.5 - 1.0);
        as_images(values.collect(), device)
    }

    /// As [`batch`](Self::batch), each digit slightly turned, sheared, zoomed and moved.
    pub fn distorted_batch(
        &self,
        indices: &[usize],
        random: &mut Random,
        device: &Device,
    ) -> Tensor<4> {
        let values = indices
            .iter()
            .flat_map(|index| Distortion::random(random).apply(self.pixels(*index)));
        as_images(values.collect(), device)
    }

    /// `[batch]`
    pub fn labels(&self, indices: &[usize], device: &Device) -> Tensor<1, Int> {
        let labels: Vec<i32> = indices.iter().map(|at| self.labels[*at].into()).collect();
        Tensor::from_data(labels.as_slice(), device)
    }
}

fn normalize(byte: f32) -> f32 {
    (byte / 255.0 - MEAN) / DEVIATION
}

fn as_images(values: Vec<f32>, device: &Device) -> Tensor<4> {
    let batch = values.len() / PIXELS;
    Tensor::from_data(TensorData::new(values, [batch, 1, SIDE, SIDE]), device)
}

impl Distortion {
    fn random(random: &mut Random) -> Self {
        let angle = random.around_zero(0.2);
        let shear = random.around_zero(0.15);
        let zoom = [(); 2].map(|()| 1.0 + random.around_zero(0.12));
        let (sin, cos) = angle.sin_cos();
        Self {
            matrix: [
                [cos * zoom[0], -sin * zoom[1]],
                [(sin + shear) * zoom[0], cos * zoom[1]],
            ],
            shift: [(); 2].map(|()| random.around_zero(2.0)),
        }
    }

    /// The distorted digit, bilinear.
    fn apply(self, pixels: &[u8]) -> Vec<f32> {
        let middle = (SIDE - 1) as f32 / 2.0;
        let at = |y: i32, x: i32| {
            let inside = 0..SIDE as i32;
            if inside.contains(&y) && inside.contains(&x) {
                f32::from(pixels[y as usize * SIDE + x as usize])
            } else {
                0.0
            }
        };
        let place = |index: usize| {
            let from = [
                (index / SIDE) as f32 - middle,
                (index % SIDE) as f32 - middle,
            ];
            [0, 1].map(|axis: usize| {
                let [by_y, by_x] = self.matrix[axis];
                by_y * from[0] + by_x * from[1] + middle + self.shift[axis]
            })
        };
        let value = |index: usize| {
            let [y, x] = place(index);
            let (top, left) = (y.floor(), x.floor());
            let (down, right) = (y - top, x - left);
            let (top, left) = (top as i32, left as i32);
            let above = at(top, left) * (1.0 - right) + at(top, left + 1) * right;
            let below = at(top + 1, left) * (1.0 - right) + at(top + 1, left + 1) * right;
            normalize(above * (1.0 - down) + below * down)
        };
        (0..PIXELS).map(value).collect()
    }
}

/// The bytes of an IDX file whose items have the shape `item`.
fn read_idx(path: &Path, item: &[usize]) -> Result<Vec<u8>, TrainingError> {
    let file = std::fs::read(path).map_err(|error| {
        let reason = format!("{error}; to fetch it: cargo xtask data fetch mnist");
        TrainingError::file(path, reason)
    })?;
    let axes = item.len() + 1;
    let refuse = |reason: &str| TrainingError::data(path, reason);
    let Some((header, bytes)) = file.split_at_checked(4 * (axes + 1)) else {
        return Err(refuse("it ends in its header"));
    };
    if header[..4] != [0, 0, 8, axes as u8] {
        return Err(refuse(
            "it is no IDX file of bytes, or has another number of axes",
        ));
    }
    let lengths: Vec<usize> = header[4..]
        .chunks_exact(4)
        .map(|length| u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize)
        .collect();
    if &lengths[1..] != item {
        let reason = format!(
            "its items have the shape {:?}; accepted: {item:?}",
            &lengths[1..]
        );
        return Err(refuse(&reason));
    }
    if bytes.len() != lengths.iter().product::<usize>() {
        let reason = format!("{} bytes of data; accepted: {lengths:?}", bytes.len());
        return Err(refuse(&reason));
    }
    Ok(bytes.to_vec())
}
