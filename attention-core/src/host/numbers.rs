//! Numbers of 32 bits, and of 16 that are read as such.

use half::{bf16, f16};

/// A number as it is stored.
pub(super) trait Number: Copy + Sync {
    fn number(self) -> f32;

    /// A row in f32: where it lies, or in a buffer that is as long or longer.
    #[inline(always)]
    fn widen<'a>(row: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        for (number, stored) in buffer.iter_mut().zip(row) {
            *number = stored.number();
        }
        &buffer[..row.len()]
    }
}

impl Number for f32 {
    #[inline(always)]
    fn number(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen<'a>(row: &'a [Self], _buffer: &'a mut [f32]) -> &'a [f32] {
        row
    }
}

impl Number for f16 {
    #[inline(always)]
    fn number(self) -> f32 {
        from_f16(self)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn number(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// As `f16::to_f32`, but vectors of them: sign and exponent move to their places in a number of 32 bits, whose
/// exponent's bias is larger by 112.
#[inline(always)]
fn from_f16(number: f16) -> f32 {
    const BIASES: f32 = f32::from_bits((112 + 127) << 23);
    const INFINITE: u32 = 0x7f80_0000;
    let moved = (i32::from(number.to_bits().cast_signed()) << 13).cast_unsigned() & 0x8fff_ffff;
    let finite = f32::from_bits(moved) * BIASES;
    if finite.abs() < 65536.0 {
        finite
    } else {
        f32::from_bits(finite.to_bits() | INFINITE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_16_bits_is_read_as_what_it_is() {
        for number in (0..=u16::MAX).map(f16::from_bits) {
            let (read, expected) = (from_f16(number), number.to_f32());
            assert!(
                read.to_bits() == expected.to_bits() || read.is_nan() && expected.is_nan(),
                "{:#x} is {expected}, not {read}",
                number.to_bits()
            );
        }
    }
}
