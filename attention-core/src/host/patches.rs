//! A convolution as a matrix product.

use std::ops::Range;

use super::cores::rows_from;

/// What a convolution with a square kernel of odd `side`, padded with zeros to keep the size, multiplies
/// its weights with: `[channels * side^2, pixels]` for the pixels in `lines` of an image
/// `[channels, height, width]`, into `out`.
///
/// # Panics
/// If there are no whole channels, or `out` has another size.
pub fn patches(
    image: &[f32],
    [height, width]: [usize; 2],
    side: usize,
    lines: Range<usize>,
    out: &mut [f32],
) {
    let pixels = lines.len() * width;
    let (size, taps, pad) = (height * width, side * side, side / 2);
    assert_eq!(
        image.len() / size * taps * pixels,
        out.len(),
        "the size of the patches"
    );
    rows_from(out, pixels, |first, out| {
        for (index, row) in out.chunks_exact_mut(pixels).enumerate() {
            let (channel, tap) = ((first + index) / taps, (first + index) % taps);
            let channel = &image[channel * size..][..size];
            for (line, to) in lines.clone().zip(row.chunks_exact_mut(width)) {
                match (line + tap / side).checked_sub(pad) {
                    Some(line) if line < height => {
                        shift(&channel[line * width..][..width], tap % side, pad, to);
                    }
                    _ => to.fill(0.0),
                }
            }
        }
    });
}

/// `to[x] = from[x + right - left]`, 0 outside.
fn shift(from: &[f32], right: usize, left: usize, to: &mut [f32]) {
    let width = from.len();
    let (empty, skipped) = (left.saturating_sub(right), right.saturating_sub(left));
    let (empty, skipped) = (empty.min(width), skipped.min(width));
    let copied = width - empty - skipped;
    to[..empty].fill(0.0);
    to[empty..empty + copied].copy_from_slice(&from[skipped..skipped + copied]);
    to[empty + copied..].fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_sees_the_image_shifted_and_zeros_around_it() {
        let (channels, height, width) = (2, 4, 3);
        let image: Vec<f32> = (1..=channels * height * width).map(|x| x as f32).collect();
        for side in [1, 3, 9] {
            for lines in [0..4, 1..3] {
                let pixels = lines.len() * width;
                let mut out = vec![f32::NAN; channels * side * side * pixels];
                patches(&image, [height, width], side, lines.clone(), &mut out);
                for (at, found) in out.iter().enumerate() {
                    let (row, pixel) = (at / pixels, at % pixels);
                    let (channel, tap) = (row / (side * side), row % (side * side));
                    let y = lines.start + pixel / width + tap / side;
                    let x = pixel % width + tap % side;
                    let inside =
                        |at: usize, size: usize| at.checked_sub(side / 2).filter(|at| *at < size);
                    let expected = match (inside(y, height), inside(x, width)) {
                        (Some(y), Some(x)) => image[(channel * height + y) * width + x],
                        _ => 0.0,
                    };
                    assert_eq!(*found, expected, "side {side}, row {row}, pixel {pixel}");
                }
            }
        }
    }
}
