//! What the lanes of a warp do together. Layouts of registers are those of the PTX ISA manual's
//! sections on `mma.m16n8k16` and `ldmatrix`, not what any kernel takes them to be.

use std::ops::Range;

use super::{
    request::{Half, Meeting, Request},
    wmma,
};

pub(super) const LANES: usize = 32;

/// The requests of a warp's lanes; none where a lane has ended or was never there.
pub(super) type Lanes<'a> = [Option<&'a mut Request>; LANES];

/// What a lane reads that is not there.
const POISON: u32 = u32::MAX;

/// Answers the requests, all of which are this one.
///
/// # Errors
/// The rule that they break.
pub(super) fn meet(meeting: Meeting, lanes: &mut Lanes, shared: &[u8]) -> Result<(), &'static str> {
    match meeting {
        Meeting::Block | Meeting::Warp => Ok(()),
        Meeting::Shuffle => shuffle(lanes, |_, lane| lane % LANES),
        Meeting::ShuffleXor => shuffle(lanes, |own, mask| (own ^ mask) % LANES),
        Meeting::ShuffleUp => shuffle(lanes, |own, by| own.checked_sub(by).unwrap_or(own)),
        Meeting::ShuffleDown => shuffle(lanes, |own, by| {
            let from = own + by;
            if from < LANES { from } else { own }
        }),
        Meeting::Any => vote(lanes, |ballot, _| u32::from(ballot != 0)),
        Meeting::All => vote(lanes, |ballot, live| u32::from(ballot == live)),
        Meeting::Ballot => vote(lanes, |ballot, _| ballot),
        Meeting::Multiply(half) => multiply(lanes, half),
        Meeting::LoadMatrices { transposed } => load_matrices(lanes, shared, transposed),
        Meeting::MultiplyRdna3(half) => wmma::multiply::<wmma::Rdna3>(lanes, half),
        Meeting::MultiplyRdna4(half) => wmma::multiply::<wmma::Rdna4>(lanes, half),
    }
}

/// Every lane gets the first two words of another.
fn shuffle(lanes: &mut Lanes, from: impl Fn(usize, usize) -> usize) -> Result<(), &'static str> {
    let given = lanes.each_ref().map(|lane| {
        lane.as_ref()
            .map_or([POISON; 2], |lane| [lane.words[0], lane.words[1]])
    });
    for (own, lane) in lanes.iter_mut().enumerate() {
        if let Some(lane) = lane {
            let values = given[from(own, lane.argument as usize)];
            lane.words[..2].copy_from_slice(&values);
        }
    }
    Ok(())
}

/// Every lane gets the answer to the lanes' predicates and the lanes that are there.
fn vote(lanes: &mut Lanes, answer: impl Fn(u32, u32) -> u32) -> Result<(), &'static str> {
    let (mut ballot, mut live) = (0, 0);
    for (own, lane) in lanes.iter().enumerate() {
        if let Some(lane) = lane {
            live |= 1 << own;
            ballot |= u32::from(lane.words[0] != 0) << own;
        }
    }
    for lane in lanes.iter_mut().flatten() {
        lane.words[0] = answer(ballot, live);
    }
    Ok(())
}

const A: Range<usize> = 0..4;
const B: Range<usize> = 4..6;
const C: Range<usize> = 6..10;

/// `d = a b + c` with `a` 16 x 16, `b` 16 x 8, `c` and `d` 16 x 8, each lane `groupID = lane / 4` and
/// `threadID_in_group = lane % 4`:
///
/// | element | row | column |
/// |---|---|---|
/// | `a[i]`, i < 8 | groupID, + 8 for i in 2, 3, 6, 7 | 2 threadID + i % 2, + 8 for i >= 4 |
/// | `b[i]`, i < 4 | 2 threadID + i % 2, + 8 for i >= 2 | groupID |
/// | `c[i]`, `d[i]`, i < 4 | groupID, + 8 for i >= 2 | 2 threadID + i % 2 |
fn multiply(lanes: &mut Lanes, half: Half) -> Result<(), &'static str> {
    let mut a = [[0.0f32; 16]; 16];
    let mut b = [[0.0f32; 8]; 16];
    let mut sums = [[0.0f32; 8]; 16];
    for (index, lane) in lanes.iter().enumerate() {
        let lane = lane.as_ref().ok_or("the whole warp has to multiply")?;
        let (group, thread) = (index / 4, index % 4);
        for i in 0..8 {
            let row = group + if matches!(i, 2 | 3 | 6 | 7) { 8 } else { 0 };
            let column = thread * 2 + i % 2 + if i >= 4 { 8 } else { 0 };
            a[row][column] = element(&lane.words[A], i, half);
        }
        for i in 0..4 {
            let row = thread * 2 + i % 2 + if i >= 2 { 8 } else { 0 };
            b[row][group] = element(&lane.words[B], i, half);
            let row = group + if i >= 2 { 8 } else { 0 };
            sums[row][thread * 2 + i % 2] = f32::from_bits(lane.words[C][i]);
        }
    }
    for (row, sums) in sums.iter_mut().enumerate() {
        for (column, sum) in sums.iter_mut().enumerate() {
            for k in 0..16 {
                *sum += a[row][k] * b[k][column];
            }
        }
    }
    for (index, lane) in lanes.iter_mut().enumerate() {
        if let Some(lane) = lane {
            let (group, thread) = (index / 4, index % 4);
            for i in 0..4 {
                let row = group + if i >= 2 { 8 } else { 0 };
                lane.words[i] = sums[row][thread * 2 + i % 2].to_bits();
            }
        }
    }
    Ok(())
}

/// The `i`-th 16-bit element of registers of 32, the lower half first.
pub(super) fn element(registers: &[u32], i: usize, half: Half) -> f32 {
    half.to_f32((registers[i / 2] >> (16 * (i % 2))) as u16)
}

/// Lane `8 m + r` points at row `r` of matrix `m`: 8 elements of 16 bits. The `m`-th register of a lane
/// gets row `lane / 4`, columns `2 (lane % 4)` and the next; transposed, of the matrix' transpose.
fn load_matrices(lanes: &mut Lanes, shared: &[u8], transposed: bool) -> Result<(), &'static str> {
    let mut rows = [[[0u16; 8]; 8]; 4];
    let mut count = 0;
    for (index, lane) in lanes.iter().enumerate() {
        let lane = lane.as_ref().ok_or("the whole warp has to load")?;
        count = lane.argument as usize;
        let (matrix, row) = (index / 8, index % 8);
        if matrix < count {
            rows[matrix][row] = row_at(shared, lane.words[0] as usize)?;
        }
    }
    for (index, lane) in lanes.iter_mut().enumerate() {
        if let Some(lane) = lane {
            let (row, column) = (index / 4, 2 * (index % 4));
            for (matrix, word) in rows.iter().zip(&mut lane.words).take(count) {
                let [low, high] = if transposed {
                    [matrix[column][row], matrix[column + 1][row]]
                } else {
                    [matrix[row][column], matrix[row][column + 1]]
                };
                *word = u32::from(low) | u32::from(high) << 16;
            }
        }
    }
    Ok(())
}

fn row_at(shared: &[u8], address: usize) -> Result<[u16; 8], &'static str> {
    if !address.is_multiple_of(16) {
        return Err("a row's address has to be a multiple of 16");
    }
    let bytes = address
        .checked_add(16)
        .and_then(|end| shared.get(address..end));
    let bytes = bytes.ok_or("a row lies outside of shared memory")?;
    let mut row = [0; 8];
    for (element, pair) in row.iter_mut().zip(bytes.chunks_exact(2)) {
        *element = u16::from_le_bytes([pair[0], pair[1]]);
    }
    Ok(row)
}
