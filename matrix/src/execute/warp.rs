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
            let products = std::array::from_fn(|k| f64::from(a[row][k]) * f64::from(b[k][column]));
            *sum = cut_sum(*sum, products);
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

/// A sum as tensor cores were found to make it (Fasi, Higham, Mikaitis and Pranesh, 2021): the terms lose what
/// lies below the last bit of the largest, and the sum what f32 cannot hold. Later cores keep a bit or more beyond.
fn cut_sum(sum: f32, products: [f64; 16]) -> f32 {
    let terms = products.into_iter().chain([f64::from(sum)]);
    let largest = terms.clone().map(f64::abs).fold(0.0, f64::max);
    if !largest.is_normal() {
        return terms.sum::<f64>() as f32;
    }
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    let unit = 2f64.powi(exponent - 23);
    let total: f64 = terms.map(|term| (term / unit).trunc() * unit).sum();
    let nearest = total as f32;
    if f64::from(nearest.abs()) > total.abs() {
        f32::from_bits(nearest.to_bits() - 1)
    } else {
        nearest
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn zeros(argument: u32) -> Vec<Request> {
        let request = Request {
            kind: 0,
            line: 0,
            argument,
            words: [0; 32],
        };
        vec![request; LANES]
    }

    fn answer(
        meeting: Meeting,
        requests: &mut [Request],
        shared: &[u8],
    ) -> Result<(), &'static str> {
        let mut lanes: Lanes = std::array::from_fn(|_| None);
        for (lane, request) in lanes.iter_mut().zip(requests) {
            *lane = Some(request);
        }
        meet(meeting, &mut lanes, shared)
    }

    /// Read off the manual's figures: row 9 of `a` and column 13 are the upper half of register 3 of
    /// lane 6; row 13 of `b` and column 5, of register 1 of lane 22; row 9 of `d` and column 5 are
    /// register 3 of lane 6.
    #[test]
    fn one_element_of_each_factor_gives_one_element_of_the_product() {
        let (two, three) = (0x4000, 0x4200);
        let mut requests = zeros(0);
        requests[6].words[A.start + 3] = two << 16;
        requests[22].words[B.start + 1] = three << 16;
        requests[6].words[C.start + 3] = 0.5f32.to_bits();
        answer(Meeting::Multiply(Half::F16), &mut requests, &[]).unwrap();
        for (lane, request) in requests.iter().enumerate() {
            for register in 0..4 {
                let expected = if (lane, register) == (6, 3) { 6.5 } else { 0.0 };
                let sum = f32::from_bits(request.words[register]);
                assert_eq!(sum, expected, "lane {lane}, register {register}");
            }
        }
    }

    #[test]
    fn loaded_matrices_lie_in_rows_and_transposed_in_columns() {
        // Row r of matrix m holds 100 m + 10 r + column.
        let elements = (0..4u16).flat_map(|m| {
            (0..8u16).flat_map(move |r| (0..8u16).map(move |c| 100 * m + 10 * r + c))
        });
        let shared: Vec<u8> = elements.flat_map(u16::to_le_bytes).collect();
        let load = |transposed| {
            let mut requests = zeros(4);
            for (lane, request) in requests.iter_mut().enumerate() {
                request.words[0] = 16 * lane as u32;
            }
            let meeting = Meeting::LoadMatrices { transposed };
            answer(meeting, &mut requests, &shared).unwrap();
            // Lane 13: row 3, columns 2 and 3.
            requests[13].words[2]
        };
        assert_eq!(load(false), 232 | 233 << 16);
        assert_eq!(load(true), 223 | 233 << 16);
    }

    #[test]
    fn a_row_that_is_not_aligned_is_refused() {
        let mut requests = zeros(1);
        requests[0].words[0] = 8;
        let meeting = Meeting::LoadMatrices { transposed: false };
        assert!(answer(meeting, &mut requests, &[0; 64]).is_err());
    }
}
