use burn::tensor::{Device, Tensor, TensorData};

/// Sines and cosines of `seq` positions from `start` on, `[seq, width]`: at position `p`, pair `i` is that of
/// `p / 10000^(2 i / width)`. A pair's two stand side by side (`interleaved`), or its cosine half the width after its
/// sine.
pub(super) fn sinusoids(
    start: usize,
    seq: usize,
    width: usize,
    interleaved: bool,
    device: &Device,
) -> Tensor<2> {
    let half = width / 2;
    let value = |position: usize, column: usize| {
        let (pair, cosine) = match interleaved {
            true => (column / 2, column % 2 == 1),
            false => (column % half, column >= half),
        };
        let angle = position as f64 / 10_000f64.powf(2.0 * pair as f64 / width as f64);
        (if cosine { angle.cos() } else { angle.sin() }) as f32
    };
    let values = (start..start + seq)
        .flat_map(|position| (0..width).map(move |column| value(position, column)));
    let data = TensorData::new(values.collect::<Vec<_>>(), [seq, width]);
    Tensor::from_data(data, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_and_their_cosines_stand_side_by_side_or_in_halves() {
        let device = Device::flex();
        let row = |interleaved| {
            let row = sinusoids(1, 1, 4, interleaved, &device).to_data();
            row.try_to_vec::<f32>().unwrap()
        };
        let [a, b] = [1f32, 0.01];
        let close = |given: Vec<f32>, expected: [f32; 4]| {
            given
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        };
        assert!(close(row(true), [a.sin(), a.cos(), b.sin(), b.cos()]));
        assert!(close(row(false), [a.sin(), b.sin(), a.cos(), b.cos()]));
    }
}
