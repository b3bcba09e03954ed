//! Normally distributed numbers from a seed, the same on every device.

use burn::tensor::{Device, Tensor, TensorData};

/// Numbers that the Box-Muller transform makes at a time.
const GROUP: usize = 16;
/// Words of the generator's state.
const STATE: usize = 624;

/// The numbers that `torch.randn` gives with a generator on the CPU: a picture made from a seed is
/// the one that diffusers makes from it.
///
/// A Mersenne Twister (Matsumoto & Nishimura 1998) and the Box-Muller transform. torch computes
/// fewer than 16 numbers in another way; here they are the first of 16.
///
/// ```
/// use attention_models::models::diffusion::Noise;
/// use burn::tensor::Device;
///
/// let mut noise = Noise::new(1243);
/// let latents = noise.normal([1, 4, 8, 8], &Device::flex());
/// let first = latents.into_data().to_vec::<f32>().unwrap()[0];
/// assert!((first - -0.953_164_3).abs() < 1e-6);
/// ```
#[derive(Debug, Clone)]
pub struct Noise {
    state: [u32; STATE],
    next: usize,
}

impl Noise {
    /// Starts at `seed`, of which torch uses the lower 32 bits.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; STATE];
        state[0] = seed as u32;
        for i in 1..STATE {
            let before = state[i - 1];
            let mixed = before ^ (before >> 30);
            state[i] = mixed.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: STATE }
    }

    /// A tensor of mean 0 and variance 1.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let numbers = self.numbers(shape.iter().product());
        Tensor::from_data(TensorData::new(numbers, shape), device)
    }

    /// So many numbers of mean 0 and variance 1.
    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        let mut numbers: Vec<f32> = (0..count.max(GROUP)).map(|_| self.uniform()).collect();
        let whole = numbers.len() / GROUP * GROUP;
        numbers[..whole].chunks_mut(GROUP).for_each(box_muller);
        if whole < numbers.len() {
            // The last group overlaps the one before it, with fresh numbers.
            let last = numbers.len() - GROUP;
            numbers[last..].fill_with(|| self.uniform());
            box_muller(&mut numbers[last..]);
        }
        numbers.truncate(count);
        numbers
    }

    /// From 0 to less than 1, in steps of 2^-24.
    fn uniform(&mut self) -> f32 {
        (self.word() & 0xff_ffff) as f32 / (1u32 << 24) as f32
    }

    fn word(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for i in 0..STATE {
            let joined =
                (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % STATE] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// 16 uniform numbers as 16 normal ones: radii from the first half, angles from the second.
fn box_muller(group: &mut [f32]) {
    let (radii, angles) = group.split_at_mut(GROUP / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * (1.0 - *first).ln()).sqrt();
        let angle = 2.0 * std::f32::consts::PI * *second;
        (*first, *second) = (radius * angle.cos(), radius * angle.sin());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(given: &[f32], expected: &[f32]) {
        let pairs = given.iter().zip(expected);
        for (given, expected) in pairs {
            assert!((given - expected).abs() < 2e-6, "{given} {expected}");
        }
    }

    #[test]
    fn numbers_are_those_of_torch() {
        let mut noise = Noise::new(1243);
        let first = noise.numbers(256);
        close(&first, &[-0.953_164_3, 0.7265799, 0.56313205, 0.256_464_8]);
        let second = noise.numbers(256);
        close(&second, &[1.8025519, -0.18746495, 0.493_629_6]);
        close(&second[253..], &[-2.1463313, 1.1905241, 0.07145889]);
    }

    #[test]
    fn a_length_that_is_no_multiple_of_16_ends_as_torch_ends_it() {
        let numbers = Noise::new(5).numbers(21);
        close(&numbers, &[1.8423299, 0.5188872, -1.7119213]);
        close(
            &numbers[17..],
            &[0.0316569, -1.1724143, -1.5069404, -0.1481046],
        );
    }
}
