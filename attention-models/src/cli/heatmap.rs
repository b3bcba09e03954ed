//! Drawing an attention map over a photo, with a caption and a colour scale under it.

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{
    ImageBuffer, Luma, Rgb, RgbImage,
    imageops::{self, FilterType},
};

/// How much of the photo shows through where attention is highest and where it is lowest.
const PHOTO_SHARE: (f32, f32) = (0.25, 0.75);
const BACKGROUND: Rgb<u8> = Rgb([16, 16, 20]);
const INK: Rgb<u8> = Rgb([235, 235, 235]);
const GLYPH: u32 = 8;
const GAP: u32 = 6;

/// Attention over the patches of an image.
pub struct HeatMap {
    /// What is shown, in a few ASCII words.
    pub caption: String,
    /// `[rows, columns]` of patches.
    pub grid: [usize; 2],
    /// Row by row.
    pub values: Vec<f32>,
}

impl HeatMap {
    /// The photo under the map's colours, and below it the caption and the range of values.
    ///
    /// The colours end at the 99.5th percentile: single patches that many Vision Transformers use
    /// as scratch space would otherwise leave everything else dark (Darcet et al. 2024,
    /// <https://arxiv.org/abs/2309.16588>).
    pub fn over(&self, photo: &RgbImage) -> RgbImage {
        let (low, high) = self.range();
        let scale = (high - low).max(f32::MIN_POSITIVE);
        let (width, height) = photo.dimensions();
        let patches = ImageBuffer::from_fn(self.grid[1] as u32, self.grid[0] as u32, |x, y| {
            let value = self.values[y as usize * self.grid[1] + x as usize];
            Luma([((value - low) / scale).clamp(0.0, 1.0)])
        });
        let map = imageops::resize(&patches, width, height, FilterType::CatmullRom);

        let text = if width >= 800 { 2 } else { 1 };
        let strip = 2 * GAP + text * GLYPH;
        let mut panel = RgbImage::from_pixel(width, height + strip, BACKGROUND);
        for ((x, y, pixel), Luma([heat])) in photo.enumerate_pixels().zip(map.pixels()) {
            panel.put_pixel(x, y, blend(*pixel, heat.clamp(0.0, 1.0)));
        }
        self.draw_legend(&mut panel, height + GAP, text, (low, high));
        panel
    }

    fn range(&self) -> (f32, f32) {
        let mut sorted = self.values.clone();
        sorted.sort_by(f32::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let top = (last as f64 * 0.995).ceil() as usize;
        match (sorted.first(), sorted.get(top)) {
            (Some(low), Some(high)) => (*low, *high),
            _ => (0.0, 0.0),
        }
    }

    fn draw_legend(&self, panel: &mut RgbImage, top: u32, text: u32, range: (f32, f32)) {
        let (low, high) = (format!("{:.1e}", range.0), format!("{:.1e}", range.1));
        let glyph = text * GLYPH;
        let end = panel.width().saturating_sub(GAP);
        let after = |label: &str| label.len() as u32 * glyph;
        let high_left = end.saturating_sub(after(&high));
        let bar_left = high_left.saturating_sub(GAP + 8 * glyph);
        let low_left = bar_left.saturating_sub(GAP + after(&low));
        draw_text(panel, &self.caption, [GAP, top], text);
        if low_left < GAP + after(&self.caption) + GAP {
            return;
        }
        draw_text(panel, &low, [low_left, top], text);
        draw_text(panel, &high, [high_left, top], text);
        for x in 0..8 * glyph {
            let colour = heat_colour(x as f32 / (8 * glyph) as f32);
            (0..glyph).for_each(|y| panel.put_pixel(bar_left + x, top + y, colour));
        }
    }
}

/// Panels of one size beside and below each other, about as wide as high.
pub fn tile(panels: &[RgbImage]) -> RgbImage {
    let Some(first) = panels.first() else {
        return RgbImage::new(0, 0);
    };
    let (width, height) = first.dimensions();
    let columns = (panels.len() as f64).sqrt().ceil() as u32;
    let rows = (panels.len() as u32).div_ceil(columns);
    let mut sheet = RgbImage::from_pixel(
        columns * (width + GAP) - GAP,
        rows * (height + GAP) - GAP,
        BACKGROUND,
    );
    for (panel, index) in panels.iter().zip(0..) {
        let left = index % columns * (width + GAP);
        let top = index / columns * (height + GAP);
        imageops::replace(&mut sheet, panel, i64::from(left), i64::from(top));
    }
    sheet
}

/// A picture to draw on, with its caption below.
pub fn captioned(width: u32, height: u32, caption: &str) -> RgbImage {
    let mut picture = RgbImage::from_pixel(width, height + 2 * GAP + GLYPH, BACKGROUND);
    draw_text(&mut picture, caption, [GAP, height + GAP], 1);
    picture
}

/// From dark at 0 to bright at 1.
pub fn heat_colour(heat: f32) -> Rgb<u8> {
    let colour = colorous::INFERNO.eval_continuous(f64::from(heat));
    Rgb([colour.r, colour.g, colour.b])
}

fn blend(photo: Rgb<u8>, heat: f32) -> Rgb<u8> {
    let (hot, cold) = PHOTO_SHARE;
    let share = cold + (hot - cold) * heat;
    let Rgb(colour) = heat_colour(heat);
    let mix = |channel: usize| {
        f32::from(photo.0[channel]) * share + f32::from(colour[channel]) * (1.0 - share)
    };
    Rgb([0, 1, 2].map(|channel| mix(channel).round() as u8))
}

/// Writes ASCII from `[left, top]` on, every dot `scale` pixels wide; what does not fit is cut.
fn draw_text(image: &mut RgbImage, text: &str, [left, top]: [u32; 2], scale: u32) {
    for (character, column) in text.chars().zip(0..) {
        let Some(rows) = BASIC_FONTS.get(character) else {
            continue;
        };
        let glyph_left = left + column * GLYPH * scale;
        for y in 0..GLYPH * scale {
            for x in 0..GLYPH * scale {
                let dot = rows[(y / scale) as usize] >> (x / scale) & 1 == 1;
                if dot && glyph_left + x < image.width() && top + y < image.height() {
                    image.put_pixel(glyph_left + x, top + y, INK);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_with_the_most_attention_is_drawn_brightest() {
        let photo = RgbImage::from_pixel(300, 200, Rgb([100, 100, 100]));
        let mut values = vec![0.0; 6];
        values[4] = 0.9;
        let map = HeatMap {
            caption: "layer 0".to_string(),
            grid: [2, 3],
            values,
        };
        let panel = map.over(&photo);
        assert!(panel.height() > photo.height());
        let light = |x, y| panel.get_pixel(x, y).0.map(u32::from).iter().sum::<u32>();
        assert!(light(150, 150) > 2 * light(50, 50));
    }

    #[test]
    fn tiles_keep_their_order_row_by_row() {
        let tiles = [10, 20, 30].map(|shade| RgbImage::from_pixel(4, 2, Rgb([shade; 3])));
        let sheet = tile(&tiles);
        assert_eq!(sheet.dimensions(), (8 + GAP, 4 + GAP));
        assert_eq!(sheet.get_pixel(4 + GAP, 0).0, [20; 3]);
        assert_eq!(sheet.get_pixel(0, 2 + GAP).0, [30; 3]);
    }
}
