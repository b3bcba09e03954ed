//! RDNA's matrix instruction `v_wmma_f32_16x16x16`, as AMD's instruction set guides lay its registers out.

use super::{
    request::Half,
    warp::{Lanes, element},
};

const SIDE: usize = 16;

/// Which element of a matrix a lane's register holds.
pub(super) trait Registers {
    /// 16-bit elements of `a`, and of `b`, that a lane holds.
    const ELEMENTS: usize;
    /// Lanes 16 to 31 have to repeat what lanes 0 to 15 hold.
    const REPEATED: bool;

    /// The position along the inner dimension of a lane's `i`-th element; its row of `a`, or column of
    /// `b`, is `lane % 16`.
    fn depth(lane: usize, i: usize) -> usize;

    /// The row of a lane's `i`-th sum; its column is `lane % 16`.
    fn row(lane: usize, i: usize) -> usize;
}

/// Every lane holds a whole row of `a` and column of `b`; sums of even rows lie in the lower lanes.
pub(super) struct Rdna3;

impl Registers for Rdna3 {
    const ELEMENTS: usize = 16;
    const REPEATED: bool = true;

    fn depth(_: usize, i: usize) -> usize {
        i
    }

    fn row(lane: usize, i: usize) -> usize {
        2 * i + lane / SIDE
    }
}

/// Lower lanes hold the first half of a row or column, and the sums of the first half of the rows.
pub(super) struct Rdna4;

impl Registers for Rdna4 {
    const ELEMENTS: usize = 8;
    const REPEATED: bool = false;

    fn depth(lane: usize, i: usize) -> usize {
        8 * (lane / SIDE) + i
    }

    fn row(lane: usize, i: usize) -> usize {
        8 * (lane / SIDE) + i
    }
}

/// `d = a b + c`, all of them 16 x 16.
///
/// # Errors
/// A lane that is missing, and elements that are not repeated where they have to be.
pub(super) fn multiply<R: Registers>(lanes: &mut Lanes, half: Half) -> Result<(), &'static str> {
    let words = R::ELEMENTS / 2;
    let mut a = [[0.0f32; SIDE]; SIDE];
    let mut b = [[0.0f32; SIDE]; SIDE];
    let mut sums = [[0.0f32; SIDE]; SIDE];
    for (index, lane) in lanes.iter().enumerate() {
        let lane = lane.as_ref().ok_or("the whole wave has to multiply")?;
        if R::REPEATED
            && let Some(other) = &lanes[index % SIDE]
            && other.words[..2 * words] != lane.words[..2 * words]
        {
            return Err("lanes 16 to 31 have to hold what lanes 0 to 15 hold");
        }
        let side = index % SIDE;
        for i in 0..R::ELEMENTS {
            let depth = R::depth(index, i);
            a[side][depth] = element(&lane.words[..words], i, half);
            b[depth][side] = element(&lane.words[words..2 * words], i, half);
        }
        for i in 0..8 {
            sums[R::row(index, i)][side] = f32::from_bits(lane.words[2 * words + i]);
        }
    }
    for (row, sums) in sums.iter_mut().enumerate() {
        for (column, sum) in sums.iter_mut().enumerate() {
            for (k, b) in b.iter().enumerate() {
                *sum += a[row][k] * b[column];
            }
        }
    }
    for (index, lane) in lanes.iter_mut().enumerate() {
        if let Some(lane) = lane {
            for i in 0..8 {
                lane.words[i] = sums[R::row(index, i)][index % SIDE].to_bits();
            }
        }
    }
    Ok(())
}
