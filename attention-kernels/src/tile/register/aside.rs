//! Sums over so many tokens that they are set aside from time to time, in the memory that the result will
//! lie in: an error grows with the root of its chain's length, and two short chains are shorter than one.

use cubecl::prelude::*;

use super::{RowTile, Spread, filled, store_rows};

/// Additions in a row before sums are set aside, of at most so many tokens each.
const ADDITIONS: usize = 256;
const TOKENS_OF_ADDITION: usize = 16;

impl RowTile {
    /// Steps after which sums over so many tokens are set aside; none, where they are few.
    pub(crate) fn steps_until_aside(&self, tokens: usize) -> Option<usize> {
        (tokens > self.most_tokens_at_once()).then(|| self.steps_of_chain())
    }

    /// Tokens whose sums are not set aside.
    pub(crate) fn most_tokens_at_once(&self) -> usize {
        // Products of terms leave less of the bound to their sums.
        let chains = if self.terms > 1 { 1 } else { 2 };
        chains * self.steps_of_chain() * self.block
    }

    fn steps_of_chain(&self) -> usize {
        let tokens_of_sum = match self.spread {
            Spread::Split { .. } => self.slots(),
            _ => self.block,
        };
        (ADDITIONS * tokens_of_sum.min(TOKENS_OF_ADDITION)).div_ceil(tokens_of_sum)
    }
}

/// What was set aside of the sums of some rows.
#[derive(CubeType)]
pub(crate) struct Aside<N: Size> {
    /// Not 0 if there is something.
    begun: u32,
    /// Steps since then.
    steps: usize,
    /// What decayed since then.
    kept: Array<Vector<f32, N>>,
    #[cube(comptime)]
    pub every: Option<usize>,
}

#[cube]
impl<N: Size> Aside<N> {
    pub fn new(#[comptime] groups: usize, #[comptime] every: Option<usize>) -> Aside<N> {
        let mut kept = Array::<Vector<f32, N>>::new(groups);
        #[unroll]
        for g in 0..groups {
            kept[g] = Vector::new(1.0f32);
        }
        Aside::<N> {
            begun: 0u32.runtime(),
            steps: 0usize.runtime(),
            kept,
            every,
        }
    }

    /// What was set aside shrinks as the sums do.
    pub fn decay(&mut self, factors: &Array<Vector<f32, N>>) {
        if comptime!(self.every.is_some()) {
            #[unroll]
            for g in 0..factors.len() {
                self.kept[g] *= factors[g];
            }
        }
    }

    /// What was set aside in `target` of a sum of the `slot`-th row, where anything was.
    pub fn of<E: Float, W: Size, R: Size>(
        &self,
        target: Vector<E, W>,
        slot: usize,
    ) -> Vector<f32, R> {
        let kept = self.kept.with_vector_size::<Const<1>>();
        let before = Vector::<f32, R>::cast_from(target);
        let aside = before * Vector::new(kept[slot].extract(0usize));
        select(self.begun != 0, aside, Vector::new(0.0f32))
    }

    /// After a step: sets aside the sums, where it is time. They lie as those of
    /// [`store_rows`](super::store_rows).
    pub fn step<E: Float, R: Size, W: Size>(
        &mut self,
        sums: &mut Array<Vector<f32, R>>,
        target: &mut [Vector<E, W>],
        positions: &Array<usize>,
        first: usize,
        length: usize,
        #[comptime] dim: usize,
        #[comptime] tile: RowTile,
    ) {
        if comptime!(self.every.is_some()) {
            let due = self.due();
            if due {
                let ones = filled::<N>(1.0f32, tile.groups, true);
                store_rows::<E, N, R, W>(
                    &*sums, &ones, target, positions, first, length, &*self, dim, tile,
                );
                self.begin::<R>(sums, tile);
            }
        }
    }

    /// After a step: whether it is time.
    pub fn due(&mut self) -> bool {
        self.steps += 1;
        self.steps == comptime!(self.every.unwrap_or(1))
    }

    /// What was set aside are the sums, which begin anew.
    pub fn begin<R: Size>(&mut self, sums: &mut Array<Vector<f32, R>>, #[comptime] tile: RowTile) {
        #[unroll(tile.unroll)]
        for slot in 0..sums.len() {
            sums[slot] = Vector::new(0.0f32);
        }
        #[unroll]
        for g in 0..tile.groups {
            self.kept[g] = Vector::new(1.0f32);
        }
        self.begun = 1u32.runtime();
        self.steps = 0usize.runtime();
    }

    /// What was set aside belongs to rows that are written: the sums begin anew.
    pub fn restart(&mut self) {
        self.begun = 0u32.runtime();
        self.steps = 0usize.runtime();
    }
}
