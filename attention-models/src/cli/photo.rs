//! Photos: decoding, orientation and resampling.

use std::path::Path;

use anyhow::{Context, Result};
use image::{
    DynamicImage, ImageDecoder, ImageReader, RgbImage,
    imageops::{self, FilterType},
};

use crate::models::preprocess::{Area, Resample};

/// Decodes a JPEG or PNG, turned as its EXIF data says.
pub fn open(path: &Path) -> Result<RgbImage> {
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .with_context(|| format!("`{}` cannot be read", path.display()))?;
    let decode = || {
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut photo = DynamicImage::from_decoder(decoder)?;
        photo.apply_orientation(orientation);
        Ok::<_, image::ImageError>(photo.into_rgb8())
    };
    decode().with_context(|| {
        format!(
            "`{}` is not a whole image; accepted: JPEG and PNG",
            path.display()
        )
    })
}

/// The photo at another size `[height, width]`.
pub fn resize(photo: &RgbImage, [height, width]: [usize; 2], filter: Resample) -> RgbImage {
    let filter = match filter {
        Resample::Nearest => FilterType::Nearest,
        Resample::Lanczos => FilterType::Lanczos3,
        Resample::Bilinear => FilterType::Triangle,
        Resample::Bicubic => FilterType::CatmullRom,
    };
    imageops::resize(photo, width as u32, height as u32, filter)
}

/// A part of the photo.
pub fn crop(photo: &RgbImage, area: Area) -> RgbImage {
    let [height, width] = area.size.map(|side| side as u32);
    imageops::crop_imm(photo, area.left as u32, area.top as u32, width, height).to_image()
}

/// `[height, width]`
pub fn size(photo: &RgbImage) -> [usize; 2] {
    [photo.height() as usize, photo.width() as usize]
}
