//! What layers do to every number beside their products. Where tensors lie in this process' memory
//! and no gradient is wanted, [`attention_core::host`] does it at the speed of that memory; Burn does it
//! everywhere else, whose flex backend takes one number after the other, on one core.

use attention_core::host::{self, Order};
use burn::backend::{DispatchDevice, Flex};
use burn::nn::{GroupNorm, Linear, PaddingConfig2d, conv::Conv2d};
use burn::tensor::{DType, Tensor, TensorData, activation, module};

/// `x * Phi(x)`, exact.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_on_host(&x) {
        changed(x, host::gelu)
    } else {
        activation::gelu(x)
    }
}

/// `x * sigmoid(x)`
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_on_host(&x) {
        changed(x, host::silu)
    } else {
        activation::silu(x)
    }
}

/// `silu(gate) * inner`
pub fn gated_silu<const D: usize>(gate: Tensor<D>, inner: Tensor<D>) -> Tensor<D> {
    if is_on_host(&gate) && is_on_host(&inner) {
        let inner = inner.into_data();
        changed(gate, |gate| {
            host::gated_silu(gate, inner.as_slice().expect(IN_F32));
        })
    } else {
        activation::silu(gate) * inner
    }
}

/// `x * gamma / sqrt(mean(x^2) + epsilon)` over the last dimension, in `f32` whatever the type.
pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let gamma = gamma.cast(DType::F32);
    if is_on_host(&x) && is_on_host(&gamma) {
        let gamma = gamma.into_data();
        return changed(x, |x| {
            host::rms_norm(x, gamma.as_slice().expect(IN_F32), epsilon as f32);
        });
    }
    let x = x.cast(DType::F32);
    let mean = x.clone().square().mean_dim(D - 1);
    let length = mean.add_scalar(epsilon).sqrt();
    (x / length * gamma.unsqueeze()).cast(dtype)
}

/// A linear layer. That of a single row, as a step of generation has it, is read as fast as memory gives
/// it: flex multiplies a row on one core.
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let weight = layer.weight.val();
    match row_product(&x, &weight, layer.bias.as_ref().map(|bias| bias.val())) {
        Some(product) => product,
        None => layer.forward(x),
    }
}

/// [`linear`] without bias, with a weight `[inputs, outputs]` that belongs to another layer.
pub fn product<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    match row_product(&x, &weight, None) {
        Some(product) => product,
        None => module::linear(x, weight, None),
    }
}

/// A group norm of `[batch, channels, height, width]`.
pub fn group_norm(norm: &GroupNorm, x: Tensor<4>) -> Tensor<4> {
    let (Some(gamma), Some(beta), true) = (&norm.gamma, &norm.beta, is_on_host(&x)) else {
        return norm.forward(x);
    };
    let [_, _, height, width] = x.dims();
    let (gamma, beta) = (gamma.val().into_data(), beta.val().into_data());
    let affine = [&gamma, &beta].map(|data| data.as_slice().expect(IN_F32));
    let sizes = [norm.num_groups, height * width];
    changed(x, |x| {
        host::group_norm(x, sizes, affine, norm.epsilon as f32)
    })
}

/// A convolution. On the host, one that keeps the size is a matrix product, without the copies that flex
/// makes of image and weights to put channels last.
pub fn convolve(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    /// Numbers that are multiplied at a time: what a core's caches hold.
    const AT_A_TIME: usize = 1 << 19;
    let [batch, inputs, height, width] = x.dims();
    let weight = layer.weight.val();
    let [outputs, _, side, _] = weight.dims();
    let keeps_size = layer.kernel_size == [side; 2]
        && layer.stride == [1; 2]
        && layer.dilation == [1; 2]
        && layer.groups == 1
        && side % 2 == 1
        && matches!(
            layer.padding,
            PaddingConfig2d::Explicit(a, b, c, d) if [a, b, c, d] == [side / 2; 4]
        );
    if batch != 1 || !keeps_size || side == 1 || ![&x, &weight].into_iter().all(is_on_host) {
        return layer.forward(x);
    }
    let (device, terms) = (x.device(), inputs * side * side);
    let (weight, image) = (weight.reshape([outputs, terms]), x.into_data());
    let image: &[f32] = image.as_slice().expect(IN_F32);
    let lines = (AT_A_TIME / (terms * width)).clamp(1, height);
    let parts = (0..height).step_by(lines).map(|line| {
        let lines = line..(line + lines).min(height);
        let shape = [terms, lines.len() * width];
        let mut patches = vec![0.0; shape[0] * shape[1]];
        host::patches(image, [height, width], side, lines, &mut patches);
        let patches = Tensor::<2>::from_data(TensorData::new(patches, shape), &device);
        weight.clone().matmul(patches)
    });
    let out = Tensor::cat(parts.collect(), 1).reshape([1, outputs, height, width]);
    match &layer.bias {
        Some(bias) => out + bias.val().reshape([1, outputs, 1, 1]),
        None => out,
    }
}

/// Pairs `i` and `i + half` of heads `[batch, heads, seq, width]` turned by the angles whose cosines and
/// sines `[batch | 1, 1, seq, half]` these are. All [are on the host](is_on_host).
pub(super) fn rotate_halves(heads: Tensor<4>, cosines: &Tensor<4>, sines: &Tensor<4>) -> Tensor<4> {
    let [_, count, _, width] = heads.dims();
    let half = cosines.dims()[3];
    let angles = [cosines, sines].map(Tensor::to_data);
    let [cosines, sines] = angles.each_ref().map(|data| {
        let numbers: &[f32] = data.as_slice().expect(IN_F32);
        numbers.chunks_exact(half)
    });
    // As projections leave them, the heads of a token lie side by side.
    let tokens = heads.swap_dims(1, 2);
    let turned = changed(tokens, |tokens| {
        let angles = cosines.zip(sines).cycle();
        for (heads, (cosines, sines)) in tokens.chunks_exact_mut(count * width).zip(angles) {
            host::rotate_halves(heads, width, cosines, sines);
        }
    });
    turned.swap_dims(1, 2)
}

/// `x weight + bias` if all are on the host and `x` is a row.
fn row_product<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Option<Tensor<D>> {
    let [inputs, outputs] = weight.dims();
    let mut shape = x.dims();
    let is_row = shape[D - 1] == inputs && shape[..D - 1].iter().all(|count| *count == 1);
    let on_host = is_on_host(x) && is_on_host(weight) && bias.as_ref().is_none_or(is_on_host);
    if !is_row || !on_host {
        return None;
    }
    let flex = weight.clone().try_into_primitive::<Flex>().ok()?;
    let order = match flex.layout().strides() {
        [_, 1] if flex.is_contiguous() => Order::Inputs,
        [1, step] if *step == inputs as isize => Order::Outputs,
        _ => return None,
    };
    let matrix = &flex.storage::<f32>()[flex.layout().start_offset()..][..inputs * outputs];
    let row = x.to_data();
    let mut out = bias.map_or_else(
        || vec![0.0; outputs],
        |bias| bias.into_data().try_into_vec().expect(IN_F32),
    );
    host::add_row_product(row.as_slice().expect(IN_F32), matrix, order, &mut out);
    shape[D - 1] = outputs;
    Some(Tensor::from_data(TensorData::new(out, shape), &x.device()))
}

const IN_F32: &str = "invariant: what is on the host is in f32";

/// Whether a tensor lies in this process' memory, in f32, and its operations are not recorded.
pub(super) fn is_on_host<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && matches!(x.device().as_dispatch(), DispatchDevice::Flex(_))
}

/// A tensor whose numbers, row by row, were changed; in its own memory if nobody else has it.
fn changed<const D: usize>(x: Tensor<D>, change: impl FnOnce(&mut [f32])) -> Tensor<D> {
    let device = x.device();
    let mut data = x.into_data();
    change(data.as_mut_slice().expect(IN_F32));
    Tensor::from_data(data, &device)
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::{GroupNormConfig, LinearConfig, conv::Conv2dConfig};
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 2.0), &Device::flex())
    }

    fn assert_same<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
        let (found, expected) = (found.into_data(), expected.into_data());
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-5));
    }

    #[test]
    fn the_hosts_way_gives_what_burns_operations_give() {
        // A view, whose numbers do not lie in order, and a tensor that somebody else keeps.
        let x = random([5, 3, 7]).swap_dims(0, 2);
        assert!(is_on_host(&x));
        assert_same(gelu(x.clone()), activation::gelu(x.clone()));
        assert_same(silu(x.clone()), activation::silu(x.clone()));
        let gate = random([7, 3, 5]);
        let expected = activation::silu(gate.clone()) * x.clone();
        assert_same(gated_silu(gate, x.clone()), expected);

        let gamma = random([5]);
        let length = (x.clone().square().mean_dim(2) + 0.1).sqrt();
        let expected = x.clone() / length * gamma.clone().unsqueeze();
        assert_same(rms_norm(x, gamma, 0.1), expected);
    }

    #[test]
    fn a_group_norm_on_the_host_is_burns() {
        let mut norm = GroupNormConfig::new(3, 6).init(&Device::flex());
        norm.gamma = norm.gamma.map(|gamma| gamma.map(|_| random([6])));
        let x = random([2, 6, 5, 4]);
        assert_same(group_norm(&norm, x.clone()), norm.forward(x));
    }

    #[test]
    fn a_row_times_a_layer_is_burns_however_the_weight_lies() {
        let layer = LinearConfig::new(70, 9).init(&Device::flex());
        let turned = random([9, 70]).transpose();
        for weight in [
            random([70, 9]),
            turned,
            random([70, 12]).slice_dim(1, 2..11),
        ] {
            let mut layer = layer.clone();
            layer.weight = Param::from_tensor(weight);
            let x = random([1, 1, 70]);
            assert_same(linear(&layer, x.clone()), layer.forward(x));
        }
    }

    #[test]
    fn a_convolution_that_keeps_the_size_is_burns() {
        for side in [3, 5] {
            let pad = side / 2;
            let layer = Conv2dConfig::new([6, 4], [side; 2])
                .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
                .init(&Device::flex());
            // The second in several parts.
            for size in [[7, 9], [300, 40]] {
                let x = random([1, 6, size[0], size[1]]);
                assert_same(convolve(&layer, x.clone()), layer.forward(x));
            }
        }
    }

    #[test]
    fn what_is_recorded_is_not_on_the_host() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::ones([3], &device).require_grad();
        assert!(!is_on_host(&x));
        let gradients = silu(x.clone()).sum().backward();
        assert!(x.grad(&gradients).is_some());
    }
}
