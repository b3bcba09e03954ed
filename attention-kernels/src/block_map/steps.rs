//! Which tokens a walk visits: all up to its end, or those of the blocks that a map lists.

use cubecl::prelude::*;

/// The lists of one axis of a map, with stride 0 where batch elements or heads share them.
#[derive(CubeType, CubeLaunch, Clone)]
#[expand(derive(Clone))]
pub(crate) struct BlockList {
    pub data: Box<[u32]>,
    pub batch: usize,
    pub head: usize,
    pub row: usize,
}

/// Tokens of a block along the axis of the lanes, and along that of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Blocks {
    pub own: usize,
    pub across: usize,
}

/// The tokens of one step.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Step {
    /// The first of them.
    pub token: usize,
    /// Not 0 if the mask shows all of them to all lanes.
    pub full: u32,
}

#[cube]
impl Step {
    /// A step of a walk without a map.
    pub fn tested(token: usize) -> Step {
        Step {
            token,
            full: 0u32.runtime(),
        }
    }
}

/// The steps of one walk, `block` tokens each.
#[derive(CubeType)]
pub(crate) struct Steps {
    list: ComptimeOption<BlockList>,
    /// The list's first entry that is visited; the first token, where there is no list.
    first: usize,
    /// The last entry of the list.
    last: usize,
    pub count: usize,
    #[cube(comptime)]
    blocks: Option<Blocks>,
    #[cube(comptime)]
    block: usize,
}

#[cube]
impl Steps {
    /// Of lanes whose tile begins at `own_first`, over the tokens from `start` to `end`.
    pub fn new(
        list: &ComptimeOption<BlockList>,
        batch: usize,
        head: usize,
        own_first: usize,
        start: usize,
        end: usize,
        #[comptime] blocks: Option<Blocks>,
        #[comptime] block: usize,
    ) -> Steps {
        let mut first = start;
        let mut last = 0usize.runtime();
        let mut count = (max(end, start) - start).div_ceil(block.runtime());
        #[comptime]
        match list {
            ComptimeOption::Some(list) => {
                let sizes = comptime!(blocks.unwrap_or(Blocks { own: 1, across: 1 }));
                let row = batch * list.batch + head * list.head + own_first / sizes.own * list.row;
                last = row + list.data[row] as usize;
                let mut from = row + 1;
                let mut to = last + 1;
                // Lists ascend: what causality hides is cut off at their ends.
                while from < to
                    && first_token(list.data[min(from, to - 1)], sizes) + sizes.across <= start
                {
                    from += 1;
                }
                while from < to && first_token(list.data[to - 1], sizes) >= end {
                    to -= 1;
                }
                first = from;
                count = (to - from) * comptime!(sizes.across / block);
            }
            ComptimeOption::None => {}
        }
        Steps {
            list: list.clone(),
            first,
            last,
            count,
            blocks,
            block,
        }
    }

    pub fn at(&self, index: usize) -> Step {
        let block = comptime!(self.block);
        let mut token = index * block;
        let mut full = 0u32;
        #[comptime]
        match &self.list {
            ComptimeOption::Some(list) => {
                let sizes = comptime!(self.blocks.unwrap_or(Blocks { own: 1, across: 1 }));
                let per_block = comptime!(sizes.across / block);
                let entry = list.data[min(self.first + index / per_block, self.last)];
                token = first_token(entry, sizes) + index % per_block * block;
                full = entry % 2;
            }
            ComptimeOption::None => {
                token += self.first;
            }
        }
        Step { token, full }
    }

    /// The first token of the step after this one, for what fetches ahead: after the last step, one that is
    /// fetched in vain.
    pub fn token_after(&self, index: usize) -> usize {
        self.at(index + 1).token
    }
}

#[cube]
fn first_token(entry: u32, #[comptime] blocks: Blocks) -> usize {
    (entry / 2) as usize * blocks.across
}
