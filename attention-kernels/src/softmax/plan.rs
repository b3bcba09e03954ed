//! Which tiles a device gets.

use cubecl::ir::{DeviceProperties, ElemType, FloatKind};

use super::{bind, exponential::Exponential};
use crate::tile::{RowTile, Spread};

/// Rows of a cube where lanes are units: the smallest block of a map.
const ROWS: usize = 64;
/// The widest vectors that units load.
pub(super) const MAX_WIDTH: usize = 4;
/// The widest vector register of a processor, in numbers of 32 bits.
const VECTOR_LANES: u32 = 16;

/// The shape of a launch on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub tile: RowTile,
    /// Rows of a vector register: 1 where the lanes are units.
    pub lanes: usize,
    /// Units of a cube.
    pub units: u32,
    /// Units are cores, each with row tiles of its own.
    pub tile_per_unit: bool,
    /// A core claims one as it comes to it, in place of having a share of them: see [`Claims`](super::args::Claims).
    pub claims_tiles: bool,
    /// Threads that have a fixed share of the cubes of a launch, and claim rows in place of it: 1 where that is not so, or
    /// gains nothing.
    pub threads: usize,
    /// Groups that the registers have room for in the forward, where there are rows to fill them.
    pub most_groups: usize,
    /// One key walk gathers the sums of both gradients.
    pub both: bool,
    pub exponential: Exponential,
    /// The widest vector that rows and tokens are read with: 1 where `lanes` is more.
    pub max_width: usize,
}

/// Which walk a plan is for: they differ in how many rows of `dim` registers they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    Forward,
    /// The backward's, for the gradient of the queries.
    Query,
    /// Every other of the backward.
    Backward,
}

impl Plan {
    /// Rows that the units of a cube own together.
    pub fn rows_per_cube(&self) -> usize {
        self.units as usize * self.tile.groups * self.lanes / self.tile.spread.lanes_per_row()
    }

    /// The same plan with as many vectors of rows as are fastest for so many: more share a load, and fewer
    /// leave fewer lanes without a row. Those of a `mapped` tile stay within the blocks of every map.
    pub fn for_rows(mut self, rows: usize, mapped: bool) -> Self {
        if self.tile_per_unit {
            let padded = |groups| rows.next_multiple_of(groups * self.lanes);
            if !mapped && 16 * padded(self.most_groups) <= 17 * padded(self.tile.groups) {
                self.tile.groups = self.most_groups;
            }
            self.tile.groups = rows.div_ceil(self.lanes).clamp(1, self.tile.groups);
        }
        self
    }

    /// The same plan without copies of tokens that are too few rows' to pay for them.
    pub fn unless_few(mut self, rows: usize) -> Self {
        self.tile.widened &= rows >= ROWS;
        self
    }

    /// Other plans that a device might run faster. `mapped` tiles stay within the blocks of every map.
    pub fn variants(&self, properties: &DeviceProperties, mapped: bool) -> Vec<Self> {
        let tile = self.tile;
        let with = |tile, units| Self {
            tile,
            units,
            ..*self
        };
        let steps = |tokens| RowTile {
            tokens,
            block: tokens,
            ..tile
        };
        if self.tile_per_unit {
            let narrow = RowTile {
                groups: 4,
                tokens: 4,
                dims: 4,
                ..tile
            };
            let tokens = if tile.tokens == 4 { 8 } else { 4 };
            let whole = tile.groups >= 2;
            let pair = (tile.groups > 2).then_some(RowTile { groups: 2, ..tile });
            let tiles = [
                pair,
                whole.then_some(narrow),
                Some(RowTile { tokens, ..tile }),
                Some(RowTile { block: 32, ..tile }),
                (!mapped).then_some(RowTile { block: 128, ..tile }),
            ];
            let tiles = tiles.into_iter().flatten();
            return tiles.map(|tile| with(tile, self.units)).collect();
        }
        if let Some(shared) = self.shared_variants() {
            return shared;
        }
        let most = properties.hardware.max_units_per_cube;
        let wide = (!mapped && most >= 2 * self.units).then(|| with(tile, 2 * self.units));
        let narrow = (self.units > 32).then(|| with(tile, self.units / 2));
        let short = (tile.tokens > 1).then(|| with(steps(tile.tokens / 2), self.units));
        let long = (tile.tokens < 16).then(|| with(steps(2 * tile.tokens), self.units));
        [short, long, narrow, wide].into_iter().flatten().collect()
    }

    /// Tiles that cover so many rows: of units, or of cubes.
    pub fn tiles(&self, rows: usize) -> usize {
        let rows_per_tile = if self.tile_per_unit {
            self.rows_per_cube() / self.units as usize
        } else {
            self.rows_per_cube()
        };
        rows.div_ceil(rows_per_tile)
    }

    /// Cubes that cover so many rows, each so many times.
    pub fn cubes(&self, rows: usize, times: usize) -> usize {
        let tiles = self.tiles(rows) * times;
        if self.tile_per_unit && !self.claims_tiles {
            tiles.div_ceil(self.units as usize)
        } else {
            tiles
        }
    }

    /// The same plan with tiles that cores claim, where units are cores, or with rows that a rasterizer's threads do.
    pub fn claiming(mut self, batch: usize) -> Self {
        let copied = self.threads > 1 && batch * self.threads <= bind::AXIS;
        self.claims_tiles = (self.tile_per_unit && self.units > 1) || copied;
        self
    }

    /// How often a launch has each of its cubes.
    pub fn copies(&self) -> usize {
        if self.claims_tiles { self.threads } else { 1 }
    }

    /// The same plan with steps that divide the blocks of every map.
    pub fn within_blocks(mut self) -> Self {
        if !self.tile_per_unit {
            self.tile.tokens = 1 << self.tile.tokens.ilog2();
            self.tile.block = self.tile.tokens;
        }
        self
    }

    /// Units of a cube, and lanes of a unit.
    pub fn units_and_lanes(properties: &DeviceProperties) -> (u32, usize) {
        let elem = ElemType::Float(FloatKind::F32);
        let plan = Self::new(properties, Walk::Forward, 1, elem);
        (plan.units, plan.lanes)
    }

    /// The plan for a walk over rows of at most `dim` dimensions.
    pub fn new(properties: &DeviceProperties, walk: Walk, dim: usize, elem: ElemType) -> Self {
        match properties.hardware.num_cpu_cores {
            Some(cores) => Self::for_cores(properties, cores, walk, elem),
            None => Self::for_lanes(properties, walk, dim, elem),
        }
    }

    /// A unit is a core: rows across the lanes of its vector registers, key blocks that stay in
    /// its first-level cache.
    fn for_cores(properties: &DeviceProperties, cores: u32, walk: Walk, elem: ElemType) -> Self {
        let hardware = &properties.hardware;
        let lanes = (hardware.load_width as usize / 32).clamp(1, 16);
        let registers = hardware.vector_register_count.unwrap_or(16) as usize;
        // Groups of rows meet `dims` dimensions of a value, and `tokens` of the product with keys: sums, rows and
        // one broadcast have to fit. Totals, one for each of the product's sums, may leave the registers.
        let dims = (registers / 4).clamp(4, 8);
        let most_groups = if registers < 32 { 2 } else { 3 };
        let tokens = if walk == Walk::Forward || registers < 32 {
            4
        } else {
            8
        };
        Self {
            tile: RowTile {
                groups: 2,
                tokens,
                block: 64,
                dims,
                unroll: false,
                staged: false,
                unpacks: elem == ElemType::Float(FloatKind::F16),
                widened: false,
                lent: false,
                spread: Spread::Lane,
                terms: 1,
            },
            lanes,
            units: cores.max(1),
            tile_per_unit: true,
            claims_tiles: false,
            threads: 1,
            most_groups,
            both: true,
            exponential: Exponential::Polynomial,
            max_width: 1,
        }
    }

    /// A unit is a lane: one row each, held in its registers. Every key is unrolled, so that the
    /// number of keys per step bounds the kernel's size and its compile time.
    fn for_lanes(properties: &DeviceProperties, walk: Walk, dim: usize, elem: ElemType) -> Self {
        let software = is_software(properties);
        let narrow = elem.size() < 4;
        let vectors = has_vector_planes(properties);
        let (budget, most) = match (vectors, walk) {
            // Sums leave a processor's registers once a step, which more tokens share; the first product's of
            // six tokens fit where there are 32.
            (true, _) => (768, 6),
            (false, Walk::Forward) => (512, 8),
            (false, Walk::Query | Walk::Backward) => (256, 8),
        };
        let tokens = (budget / dim.max(1)).clamp(1, most);
        Self {
            tile: RowTile {
                groups: 1,
                tokens,
                block: tokens,
                dims: 8,
                unroll: true,
                // LLVM branches for every lane of an access of 16 bits, and a software
                // rasterizer has it compile one per chunk: seconds for long rows.
                staged: software && narrow,
                unpacks: false,
                widened: narrow && vectors,
                lent: false,
                spread: Spread::Lane,
                terms: 1,
            },
            lanes: 1,
            units: properties.hardware.max_units_per_cube.min(ROWS as u32),
            tile_per_unit: false,
            claims_tiles: false,
            threads: if vectors && walk != Walk::Forward {
                rasterizer_threads(properties)
            } else {
                1
            },
            most_groups: 1,
            both: vectors,
            exponential: if software {
                Exponential::Polynomial
            } else {
                Exponential::Native
            },
            max_width: MAX_WIDTH,
        }
    }
}

/// Whether a device is a software rasterizer, or a browser that does not say what it runs on.
pub(crate) fn is_software(properties: &DeviceProperties) -> bool {
    properties.identity.physical.is_none()
}

/// Threads of a software rasterizer, where a kernel has a buffer left for what they claim. More than a few copies of a
/// launch would mostly be looked at in vain.
fn rasterizer_threads(properties: &DeviceProperties) -> usize {
    const MOST: usize = 8;
    const BUFFERS: u32 = 16;
    if properties.hardware.max_bindings < BUFFERS {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST))
}

/// Whether a plane is a vector register of a processor. It has few registers, so that rows lie in memory
/// however many there are, and no arithmetic in 16 bits: an element that all lanes read alike costs it three
/// instructions before it is multiplied; one of 32 bits costs none.
pub(super) fn has_vector_planes(properties: &DeviceProperties) -> bool {
    is_software(properties) && properties.hardware.plane_size_max <= VECTOR_LANES
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
