//! What happens to a photo before a vision model sees it: the numbers of a
//! `preprocessor_config.json`, and the arithmetic from bytes to a normalised tensor. Decoding and
//! resampling photos is left to an image library.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use super::checkpoint::{CheckpointError, find};

/// A `preprocessor_config.json` of transformers' image processors.
///
/// The default is ImageNet's: shortest edge 256, the middle 224 x 224, bicubic, ImageNet's mean
/// and standard deviation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ImageProcessor {
    /// Whether photos are resized.
    pub do_resize: bool,
    /// To which size.
    pub size: Size,
    /// The filter, as PIL numbers them.
    pub resample: Resample,
    /// Whether the middle is cut out.
    pub do_center_crop: bool,
    /// Of which size.
    pub crop_size: Size,
    /// Whether bytes are multiplied by `rescale_factor`.
    pub do_rescale: bool,
    /// Usually 1 / 255.
    pub rescale_factor: f64,
    /// Whether the mean is taken off and the deviation divided out.
    pub do_normalize: bool,
    /// Per channel: three, or one for a model of grey images.
    pub image_mean: Vec<f64>,
    /// Per channel.
    pub image_std: Vec<f64>,
}

/// A size as image processors write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// The shorter side; the other keeps the proportions.
    ShortestEdge {
        /// In pixels.
        shortest_edge: usize,
    },
    /// Both sides.
    Sides {
        /// In pixels.
        height: usize,
        /// In pixels.
        width: usize,
    },
    /// A bare number: the shorter side when a crop follows, otherwise both sides.
    Number(usize),
}

/// A resampling filter, by PIL's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub enum Resample {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
}

impl TryFrom<u8> for Resample {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Nearest),
            1 => Ok(Self::Lanczos),
            2 => Ok(Self::Bilinear),
            3 => Ok(Self::Bicubic),
            _ => Err(format!(
                "`resample` is {number}; accepted: 0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic)"
            )),
        }
    }
}

/// A part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Rows above it.
    pub top: usize,
    /// Columns left of it.
    pub left: usize,
    /// `[height, width]`
    pub size: [usize; 2],
}

impl Default for ImageProcessor {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: Size::ShortestEdge { shortest_edge: 256 },
            resample: Resample::Bicubic,
            do_center_crop: true,
            crop_size: Size::Number(224),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: vec![0.485, 0.456, 0.406],
            image_std: vec![0.229, 0.224, 0.225],
        }
    }
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json` of a model folder, or takes the default where there is
    /// none.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`] when the file is there and cannot be used.
    pub fn load(place: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = find(place)?.join("preprocessor_config.json");
        let Ok(text) = std::fs::read(&path) else {
            return Ok(Self::default());
        };
        let refuse = |reason: String| CheckpointError::Config {
            path: path.clone(),
            reason,
        };
        let processor: Self =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        let channels = [&processor.image_mean, &processor.image_std].map(Vec::len);
        if channels != [1; 2] && channels != [3; 2] {
            return Err(refuse(format!(
                "`image_mean` and `image_std` have {channels:?} numbers; accepted: three each, or one"
            )));
        }
        Ok(processor)
    }

    /// The size `[height, width]` to which a photo of `size` is resized, and the part of it that
    /// the model sees. A crop larger than the photo is cut to the photo.
    pub fn plan(&self, size: [usize; 2]) -> ([usize; 2], Area) {
        let resized = if self.do_resize {
            self.size.of(size, self.do_center_crop)
        } else {
            size
        };
        let cropped = if self.do_center_crop {
            let crop = self.crop_size.of(resized, false);
            [crop[0].min(resized[0]), crop[1].min(resized[1])]
        } else {
            resized
        };
        let area = Area {
            top: (resized[0] - cropped[0]) / 2,
            left: (resized[1] - cropped[1]) / 2,
            size: cropped,
        };
        (resized, area)
    }

    /// Bytes `[height][width][rgb]` as a tensor `[1, 3, height, width]`, rescaled and normalised; of
    /// one channel, the brightness, where there is one mean.
    ///
    /// # Panics
    ///
    /// Panics if `rgb` has another length than `3 * height * width`.
    pub fn normalize(&self, rgb: &[u8], size: [usize; 2], device: &Device) -> Tensor<4> {
        let pixels = size[0] * size[1];
        assert_eq!(
            rgb.len(),
            3 * pixels,
            "`rgb` must hold {size:?} pixels of three bytes"
        );
        let rescale = if self.do_rescale {
            self.rescale_factor
        } else {
            1.0
        };
        let grey = self.image_mean.len() == 1;
        let mut values = Vec::with_capacity(rgb.len());
        for (channel, (mean, std)) in self.image_mean.iter().zip(&self.image_std).enumerate() {
            let (mean, std) = if self.do_normalize {
                (*mean, *std)
            } else {
                (0.0, 1.0)
            };
            let value = |pixel: &[u8; 3]| {
                let byte = if grey {
                    brightness(*pixel)
                } else {
                    f64::from(pixel[channel])
                };
                ((byte * rescale - mean) / std) as f32
            };
            values.extend(rgb.as_chunks::<3>().0.iter().map(value));
        }
        let channels = self.image_mean.len();
        let shape = [1, channels, size[0], size[1]];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

/// As PIL's conversion to `L` weighs the colours (ITU-R 601).
fn brightness(pixel: [u8; 3]) -> f64 {
    let [red, green, blue] = pixel.map(f64::from);
    (0.299 * red + 0.587 * green + 0.114 * blue).round()
}

impl Size {
    /// `[height, width]` for a photo of `photo`.
    fn of(self, photo: [usize; 2], number_is_shortest_edge: bool) -> [usize; 2] {
        match self {
            Size::Sides { height, width } => [height, width],
            Size::Number(side) if !number_is_shortest_edge => [side, side],
            Size::ShortestEdge {
                shortest_edge: edge,
            }
            | Size::Number(edge) => {
                let shorter = photo[0].min(photo[1]).max(1);
                photo.map(|side| edge * side / shorter)
            }
        }
    }
}

/// The size `[height, width]` nearest to the proportions of `photo` whose sides are multiples of
/// `patch_size` and whose area is about `image_size` squared: the whole photo, at the cost for
/// which the model was trained.
///
/// ```
/// use attention_models::models::preprocess::whole_photo_size;
///
/// assert_eq!(whole_photo_size([400, 600], 518, 14), [420, 630]);
/// assert_eq!(whole_photo_size([512, 512], 518, 14), [518, 518]);
/// ```
pub fn whole_photo_size(photo: [usize; 2], image_size: usize, patch_size: usize) -> [usize; 2] {
    let area = (photo[0] * photo[1]).max(1) as f64;
    let zoom = image_size as f64 / area.sqrt();
    photo.map(|side| {
        let patches = (side as f64 * zoom / patch_size as f64).round();
        patches.max(1.0) as usize * patch_size
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cuts_the_middle_out_of_the_shortest_edge() {
        let (resized, area) = ImageProcessor::default().plan([400, 600]);
        assert_eq!(resized, [256, 384]);
        let (top, left) = (16, 80);
        assert_eq!(
            area,
            Area {
                top,
                left,
                size: [224, 224]
            }
        );
    }

    #[test]
    fn sizes_are_read_in_all_three_spellings() {
        let read = |json: &str| serde_json::from_str::<ImageProcessor>(json);
        let clip = read(r#"{"size": 224, "crop_size": {"height": 200, "width": 100}}"#).unwrap();
        let (resized, area) = clip.plan([448, 896]);
        assert_eq!((resized, area.size), ([224, 448], [200, 100]));
        let vit = read(r#"{"size": {"height": 224, "width": 192}, "do_center_crop": false}"#);
        assert_eq!(vit.unwrap().plan([5, 7]).0, [224, 192]);
        let error = read(r#"{"resample": 9}"#).unwrap_err().to_string();
        assert!(error.contains("accepted: 0 (nearest)"), "{error}");
    }

    #[test]
    fn bytes_are_rescaled_and_normalised_channel_by_channel() {
        let processor = ImageProcessor::default();
        let pixels = processor.normalize(&[0, 128, 255, 255, 0, 51], [1, 2], &Device::flex());
        assert_eq!(pixels.dims(), [1, 3, 1, 2]);
        let pixels = pixels.into_data();
        let value = |byte: f64, mean: f64, std: f64| ((byte / 255.0 - mean) / std) as f32;
        let expected = [
            value(0.0, 0.485, 0.229),
            value(255.0, 0.485, 0.229),
            value(128.0, 0.456, 0.224),
            value(0.0, 0.456, 0.224),
            value(255.0, 0.406, 0.225),
            value(51.0, 0.406, 0.225),
        ];
        assert_eq!(pixels.as_slice::<f32>().unwrap(), expected);
    }

    #[test]
    fn one_mean_takes_the_brightness() {
        let processor = ImageProcessor {
            image_mean: vec![0.5],
            image_std: vec![0.25],
            ..ImageProcessor::default()
        };
        let pixels = processor.normalize(&[0, 128, 255, 51, 51, 51], [1, 2], &Device::flex());
        assert_eq!(pixels.dims(), [1, 1, 1, 2]);
        let value = |byte: f64| ((byte / 255.0 - 0.5) / 0.25) as f32;
        let pixels = pixels.into_data();
        // 0.587 * 128 + 0.114 * 255 = 104.2
        assert_eq!(
            pixels.as_slice::<f32>().unwrap(),
            [value(104.0), value(51.0)]
        );
    }

    #[test]
    fn the_whole_photo_keeps_its_proportions_and_the_trained_cost() {
        for photo in [[300, 451], [4000, 3000], [1, 1000], [512, 512]] {
            let [height, width] = whole_photo_size(photo, 518, 14);
            assert!(height % 14 == 0 && width % 14 == 0 && height > 0 && width > 0);
        }
        assert_eq!(whole_photo_size([300, 451], 518, 14), [420, 630]);
    }
}
