//! Keys in parts: where few rows would leave most of a device idle, several cubes share a row, each
//! with a part of its keys, and what they find is combined by its log-sum-exp (Flash-Decoding,
//! <https://crfm.stanford.edu/2023/10/12/flashdecoding.html>).

use attention_core::AttentionProblem;
use cubecl::{
    ir::{ElemType, HardwareProperties},
    prelude::*,
};

use super::{args::Sizes, bind::F32, plan::Plan, setup::Setup};
use crate::tile::Spread;

/// How the keys of every row are divided.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct KeySplit {
    /// Parts of the keys.
    pub parts: usize,
    /// Keys of a part; the last has what is left.
    pub tokens: usize,
}

/// What one unit has of it.
#[derive(CubeType)]
pub(crate) struct KeyPart {
    pub tile: usize,
    /// The first key of the part, and one past its last.
    pub start: usize,
    pub end: usize,
    /// Where the results of the part begin, among those of all parts.
    pub first_row: usize,
}

#[cube]
impl KeyPart {
    /// The parts of a tile come one after the other.
    pub fn new(split: &ComptimeOption<KeySplit>, index: usize, sizes: &Sizes) -> KeyPart {
        let mut tile = index;
        let mut start = 0usize.runtime();
        let mut end = sizes.seq_kv;
        let mut first_row = 0usize.runtime();
        #[comptime]
        match split {
            ComptimeOption::Some(split) => {
                let part = index % split.parts;
                tile = index / split.parts;
                start = part * split.tokens;
                end = min(start + split.tokens, sizes.seq_kv);
                first_row = part * (sizes.batch * sizes.heads * sizes.seq_q);
            }
            ComptimeOption::None => {}
        }
        KeyPart {
            tile,
            start,
            end,
            first_row,
        }
    }
}

/// Parts of the keys, and keys of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub count: usize,
    pub tokens: usize,
}

/// How a forward walk is launched, over all keys or over each of their parts.
pub(crate) struct Division {
    pub cubes: CubeCount,
    pub split: Option<KeySplitLaunch>,
    /// Of the results: f32 for parts, whose results lie one after the other.
    pub out_elem: ElemType,
    /// Keys of one walk.
    pub tokens: usize,
    /// Rows of the results, those of each part counted.
    pub rows: usize,
}

impl Division {
    pub fn new(setup: &Setup, plan: &Plan, parts: Option<Parts>) -> Self {
        let AttentionProblem {
            batch,
            heads,
            seq_q,
            seq_kv,
            ..
        } = setup.problem;
        let count = parts.map_or(1, |parts| parts.count);
        let cubes = plan.cubes(seq_q, count) as u32;
        Self {
            cubes: CubeCount::new_3d(cubes, heads as u32, batch as u32),
            split: parts.map(|parts| KeySplitLaunch::new(parts.count, parts.tokens)),
            out_elem: if parts.is_some() { F32 } else { setup.elem },
            tokens: parts.map_or(seq_kv, |parts| parts.tokens),
            rows: count * batch * heads * seq_q,
        }
    }
}

/// A part has at least this many keys, and so many for each unit that walks over them: less would not pay for
/// the combination.
const FEWEST_TOKENS: usize = 256;
const FEWEST_TOKENS_PER_UNIT: usize = 4;
/// Units that keep a multiprocessor of a GPU busy while they wait for memory.
const UNITS_PER_MULTIPROCESSOR: u32 = 128;
/// More parts would make the combination the longest part of the call.
const MOST_PARTS: usize = 64;
/// Cubes that a GPU runs at once, where it does not say.
const UNKNOWN_MULTIPROCESSORS: u32 = 32;

impl Parts {
    /// The parts in which a call with so many row tiles keeps the device busy; `None` for one. Parts
    /// are multiples of `granule` keys.
    pub fn new(
        hardware: &HardwareProperties,
        plan: &Plan,
        tiles: usize,
        seq_kv: usize,
        granule: usize,
    ) -> Option<Self> {
        let (busy, fewest) = if plan.tile_per_unit {
            (plan.units, FEWEST_TOKENS)
        } else {
            let multiprocessors = hardware.num_streaming_multiprocessors;
            let multiprocessors = multiprocessors.unwrap_or(UNKNOWN_MULTIPROCESSORS);
            let of_units = FEWEST_TOKENS_PER_UNIT * plan.units as usize;
            (
                multiprocessors * UNITS_PER_MULTIPROCESSOR / plan.units,
                FEWEST_TOKENS.max(of_units),
            )
        };
        let wanted = (busy as usize / tiles.max(1)).min(MOST_PARTS);
        // Lanes that share a row cannot set its sums aside.
        let needed = match plan.tile.spread {
            Spread::Split { .. } => seq_kv.div_ceil(plan.tile.most_tokens_at_once()),
            _ => 1,
        };
        let parts = wanted.min(seq_kv / fewest.max(granule)).max(needed);
        if parts < 2 {
            return None;
        }
        let tokens = seq_kv.div_ceil(parts).next_multiple_of(granule);
        let count = seq_kv.div_ceil(tokens);
        (count > 1).then_some(Self { count, tokens })
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use cubecl::{
        Device,
        ir::{DeviceProperties, ElemType, FloatKind},
    };

    use super::*;
    use crate::softmax::plan::Walk;

    /// Parts for so many tiles and keys on a GPU with so many multiprocessors, in cubes of so many units.
    fn parts(multiprocessors: u32, units: u32, tiles: usize, seq_kv: usize) -> Option<Parts> {
        let mut properties: DeviceProperties = Device::cpu()
            .expect("the feature is on")
            .client()
            .properties()
            .clone();
        properties.hardware.num_cpu_cores = None;
        properties.hardware.num_streaming_multiprocessors = Some(multiprocessors);
        let elem = ElemType::Float(FloatKind::F32);
        let plan = Plan {
            units,
            ..Plan::new(&properties, Walk::Forward, 64, elem)
        };
        Parts::new(&properties.hardware, &plan, tiles, seq_kv, plan.tile.block)
    }

    #[test]
    fn few_rows_of_many_keys_are_shared_until_the_device_is_busy() {
        // The smaller a cube, the more of them a multiprocessor runs at once.
        for (units, count) in [(32, 64), (64, 33), (128, 16)] {
            let parts =
                parts(132, units, 8, 65_536).expect("8 tiles leave 132 multiprocessors idle");
            assert_eq!(parts.count, count, "{units} units");
            let [before, all] = [count - 1, count].map(|count| count * parts.tokens);
            assert!(before < 65_536 && all >= 65_536, "{units} units");
        }
    }

    #[test]
    fn rows_that_keep_the_device_busy_are_not_shared() {
        assert_eq!(parts(132, 64, 264, 65_536), None);
        assert_eq!(parts(132, 128, 67, 65_536), None);
    }

    #[test]
    fn few_keys_are_not_shared() {
        for (units, fewest) in [(32, 512), (64, 512), (128, 1024)] {
            assert_eq!(parts(132, units, 1, fewest - 1), None, "{units} units");
            let parts = parts(132, units, 1, fewest);
            assert_eq!(parts.map(|parts| parts.count), Some(2), "{units} units");
        }
    }
}
