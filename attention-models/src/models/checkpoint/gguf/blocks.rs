//! The types of tensors that are read, and their values as `f32`.

use half::{bf16, f16};

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockType {
    F32,
    F16,
    Bf16,
    /// 4 bits and one scale for 32 values.
    Q4_0,
    /// 4 bits, one scale and one minimum for 32 values.
    Q4_1,
    /// 8 bits and one scale for 32 values.
    Q8_0,
}

/// Values in a quantised block.
const BLOCK: usize = 32;

/// The types that ggml knows, by their numbers.
const NAMES: [&str; 31] = [
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
    "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16",
];

/// What ggml calls the type of this number.
pub(super) fn type_name(number: u32) -> String {
    let name = NAMES.get(number as usize).copied();
    name.map_or_else(|| format!("the unknown type {number}"), str::to_string)
}

impl BlockType {
    /// What is accepted, in words.
    pub(super) const ACCEPTED: &'static str = "F32, F16, BF16, Q4_0, Q4_1, Q8_0";

    /// The type of this number.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Values and bytes of one block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (BLOCK, 2 + BLOCK / 2),
            Self::Q4_1 => (BLOCK, 4 + BLOCK / 2),
            Self::Q8_0 => (BLOCK, 2 + BLOCK),
        }
    }

    /// Bytes of a tensor; none where its rows are not whole blocks.
    pub(super) fn bytes(self, shape: &[usize]) -> Option<usize> {
        let (values, bytes) = self.block();
        let elements = shape
            .iter()
            .try_fold(1usize, |product, length| product.checked_mul(*length))?;
        if !shape.last()?.is_multiple_of(values) {
            return None;
        }
        (elements / values).checked_mul(bytes)
    }

    /// The values of a tensor's bytes.
    pub(super) fn dequantise(self, bytes: &[u8]) -> Vec<f32> {
        let half =
            |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        // The low nibbles are the first half of the block, the high ones the second.
        let nibbles = |block: &[u8], value: &dyn Fn(u8) -> f32, values: &mut Vec<f32>| {
            values.extend(block.iter().map(|byte| value(byte & 15)));
            values.extend(block.iter().map(|byte| value(byte >> 4)));
        };
        let (count, size) = self.block();
        let mut values = Vec::with_capacity(bytes.len() / size * count);
        for block in bytes.chunks_exact(size) {
            match self {
                Self::F32 => {
                    values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]));
                }
                Self::F16 => values.push(half(block, 0)),
                Self::Bf16 => values.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
                Self::Q4_0 => {
                    let scale = half(block, 0);
                    let value = |quant: u8| f32::from(quant as i8 - 8) * scale;
                    nibbles(&block[2..], &value, &mut values);
                }
                Self::Q4_1 => {
                    let (scale, minimum) = (half(block, 0), half(block, 2));
                    let value = |quant: u8| f32::from(quant) * scale + minimum;
                    nibbles(&block[4..], &value, &mut values);
                }
                Self::Q8_0 => {
                    let scale = half(block, 0);
                    let quants = block[2..].iter();
                    values.extend(quants.map(|quant| f32::from(*quant as i8) * scale));
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(numbers: &[f32]) -> Vec<u8> {
        let halves = numbers.iter().map(|number| f16::from_f32(*number));
        halves.flat_map(f16::to_le_bytes).collect()
    }

    #[test]
    fn a_block_of_4_bits_holds_its_first_half_in_the_low_nibbles() {
        let mut block = header(&[0.5]);
        block.extend((0..16).map(|index: u8| index | (15 - index) << 4));
        let values = BlockType::Q4_0.dequantise(&block);
        assert_eq!(values[..3], [-4.0, -3.5, -3.0]);
        assert_eq!(values[15..18], [3.5, 3.5, 3.0]);
        let mut block = header(&[0.5, 1.0]);
        block.extend((0..16).map(|index: u8| index | (15 - index) << 4));
        let values = BlockType::Q4_1.dequantise(&block);
        assert_eq!(values[..3], [1.0, 1.5, 2.0]);
        assert_eq!(values[15..18], [8.5, 8.5, 8.0]);
    }

    #[test]
    fn a_block_of_8_bits_is_signed() {
        let mut block = header(&[0.25]);
        block.extend((0..32).map(|index: i8| (index - 16) as u8));
        let values = BlockType::Q8_0.dequantise(&block);
        assert_eq!(values.len(), 32);
        assert_eq!((values[0], values[31]), (-4.0, 3.75));
    }

    #[test]
    fn rows_that_are_not_whole_blocks_have_no_size() {
        assert_eq!(BlockType::Q4_1.bytes(&[3, 64]), Some(3 * 2 * 20));
        assert_eq!(BlockType::Q4_1.bytes(&[64, 3]), None);
        assert_eq!(BlockType::F16.bytes(&[64, 3]), Some(384));
        assert_eq!(BlockType::F32.bytes(&[usize::MAX, 3]), None);
    }
}
