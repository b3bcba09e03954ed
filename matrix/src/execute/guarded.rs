//! Memory between two zones that nobody may write, filled so that what is read unwritten is NaN.

use super::fault::Fault;

/// Bytes on either side.
const GUARD: usize = 4096;

/// NaN in every floating-point type, and an index that no array has.
const UNWRITTEN: u8 = 0xff;

/// Of every allocation and of shared memory.
const ALIGNMENT: usize = 256;

/// Host memory that a kernel is given.
pub(super) struct Guarded {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Guarded {
    pub fn new(length: usize) -> Self {
        let bytes = vec![UNWRITTEN; length + 2 * GUARD + ALIGNMENT];
        let address = bytes.as_ptr() as usize + GUARD;
        let start = GUARD + address.next_multiple_of(ALIGNMENT) - address;
        Self {
            bytes,
            start,
            length,
        }
    }

    pub fn forget(&mut self) {
        self.bytes.fill(UNWRITTEN);
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }

    /// For a kernel, which may stray as far as the zones.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: the memory begins within its bytes.
        unsafe { self.bytes.as_mut_ptr().add(self.start) }
    }

    /// Whether the zones are as they were.
    ///
    /// # Errors
    /// Where they are not; `memory` says of what.
    pub fn check(&self, memory: impl Fn() -> String) -> Result<(), Fault> {
        let (before, rest) = self.bytes.split_at(self.start);
        let after = &rest[self.length..];
        let written = |byte: &u8| *byte != UNWRITTEN;
        let found = before
            .iter()
            .rev()
            .position(written)
            .map(|at| (at + 1, "before its beginning"))
            .or(after
                .iter()
                .position(written)
                .map(|at| (at, "after its end")));
        found.map_or(Ok(()), |(distance, side)| {
            Err(Fault::OutOfBounds {
                memory: memory(),
                distance,
                side,
            })
        })
    }
}
