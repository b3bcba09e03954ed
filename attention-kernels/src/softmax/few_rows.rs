//! Plans for fewer rows than a cube has units, where units are lanes.

use attention_core::AttentionProblem;
use cubecl::{features::Plane, ir::DeviceProperties};

use super::plan::{MAX_WIDTH, Plan, has_vector_planes};
use crate::tile::{RowTile, Spread};

/// Units of the smallest cube, where planes are not smaller.
const FEWEST_UNITS: u32 = 32;
/// Units of a cube that lanes share rows in: what every device has.
const MOST_UNITS: u32 = 256;
/// Lanes with keys of their own, where units suffice: an H200 is 1.7 times as fast with four as with two.
const FEWEST_LANES: usize = 4;
/// Lanes that share the dimensions of a row, at most: eight read 128 bytes of a token of f32 as one.
const MOST_COLUMNS: u32 = 8;
/// Tokens of a step that a lane has, at most.
const MOST_TOKENS: usize = 8;

impl Plan {
    /// The same plan with cubes of fewer units where so many rows leave the others without one: they would walk in
    /// vain.
    pub fn for_lanes_of(mut self, properties: &DeviceProperties, rows: usize) -> Self {
        if !self.tile_per_unit {
            let fewest = properties.hardware.plane_size_max.min(FEWEST_UNITS);
            let needed = (rows as u32).next_power_of_two();
            self.units = needed.clamp(fewest, self.units.max(fewest));
        }
        self
    }

    /// The same plan with lanes that share so few rows, each with a part of the keys, or with neighbours that have a
    /// part of the dimensions each and read a key as one, where planes can add up what these find. The lanes of a
    /// processor's vector register stay with the same key, which they then read as one.
    pub fn sharing_rows(
        self,
        properties: &DeviceProperties,
        problem: &AttentionProblem,
        mapped: bool,
    ) -> Self {
        let rows = problem.seq_q.max(1).next_power_of_two();
        let few = 2 * rows <= self.units as usize;
        if self.tile_per_unit || mapped || !few || has_vector_planes(properties) {
            return self.for_lanes_of(properties, rows);
        }
        let dims = [problem.head_dim, problem.value_dim];
        let most = MOST_UNITS.min(properties.hardware.max_units_per_cube) as usize / rows;
        let columns = columns(properties, dims).min(most);
        let tokens = (self.tile.tokens * columns).min(MOST_TOKENS);
        let fit = (problem.seq_kv / tokens).max(1);
        let wanted = (self.units as usize / (rows * columns)).max(FEWEST_LANES);
        let lanes = wanted.min(most / columns).min(1 << fit.ilog2());
        if lanes * columns < 2 {
            return self.for_lanes_of(properties, rows);
        }
        self.shared_by(rows, lanes, columns, tokens)
    }

    /// So many lanes to each of so many rows, each with so many tokens of a step, and so many that share the
    /// dimensions.
    fn shared_by(self, rows: usize, lanes: usize, columns: usize, tokens: usize) -> Self {
        Self {
            tile: RowTile {
                tokens,
                block: tokens * lanes,
                spread: Spread::Split {
                    rows,
                    lanes,
                    columns,
                },
                ..self.tile
            },
            units: (rows * lanes * columns) as u32,
            ..self
        }
    }

    /// Other plans for shared rows that a device might run faster.
    pub(super) fn shared_variants(&self) -> Option<Vec<Self>> {
        let Spread::Split {
            rows,
            lanes,
            columns,
        } = self.tile.spread
        else {
            return None;
        };
        let tokens = self.tile.tokens;
        let short = (tokens > 1).then(|| self.shared_by(rows, lanes, columns, tokens / 2));
        let narrow = (lanes > 2).then(|| self.shared_by(rows, lanes / 2, columns, tokens));
        Some([short, narrow].into_iter().flatten().collect())
    }
}

/// Lanes that share the dimensions of a row: as many as every row has chunks for.
fn columns(properties: &DeviceProperties, dims: [usize; 2]) -> usize {
    let planes = properties.features.plane.contains(Plane::Ops);
    let most = properties.hardware.plane_size_min.min(MOST_COLUMNS) as usize;
    let fits =
        |columns: usize| dims.map(|dim| dim.is_multiple_of(columns * MAX_WIDTH)) == [true; 2];
    let found = [8, 4, 2].into_iter();
    let found = found
        .filter(|columns| planes && *columns <= most)
        .find(|columns| fits(*columns));
    found.unwrap_or(1)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use cubecl::{
        Device,
        ir::{ElemType, FloatKind},
    };

    use super::*;
    use crate::softmax::{plan::Walk, split::Parts};

    /// A device without cores, with planes of so many lanes, whose lanes can or cannot add up.
    fn device(plane: u32, adds: bool) -> DeviceProperties {
        let mut properties = Device::cpu()
            .expect("the feature is on")
            .client()
            .properties()
            .clone();
        properties.hardware.num_cpu_cores = None;
        properties.hardware.max_units_per_cube = 1024;
        properties.hardware.plane_size_min = plane;
        properties.hardware.plane_size_max = plane;
        properties.hardware.num_streaming_multiprocessors = Some(1);
        if adds {
            properties.features.plane.insert(Plane::Ops);
        } else {
            properties.features.plane.remove(Plane::Ops);
        }
        properties
    }

    /// The plan of so many queries and keys of so many dimensions.
    fn shared(device: &DeviceProperties, rows: usize, keys: usize, dim: usize) -> Plan {
        let problem = AttentionProblem {
            batch: 1,
            heads: 1,
            kv_heads: 1,
            value_heads: 1,
            seq_q: rows,
            seq_kv: keys,
            head_dim: dim,
            value_dim: dim,
        };
        let plan = Plan::new(device, Walk::Forward, dim, ElemType::Float(FloatKind::F32));
        plan.sharing_rows(device, &problem, false)
    }

    #[test]
    fn lanes_without_a_row_take_keys_or_dimensions_of_one_that_has_few() {
        for (adds, rows, keys, dim, split) in [
            (false, 1, 4096, 64, Some((1, 64, 1))),
            (false, 5, 4096, 64, Some((8, 8, 1))),
            (false, 32, 4096, 64, Some((32, 4, 1))),
            (false, 33, 4096, 64, None),
            (false, 1, 33, 64, Some((1, 4, 1))),
            (false, 1, 15, 64, None),
            (true, 1, 4096, 128, Some((1, 8, 8))),
            (true, 4, 4096, 128, Some((4, 4, 8))),
            (true, 16, 4096, 128, Some((16, 2, 8))),
            (true, 32, 4096, 128, Some((32, 1, 8))),
            (true, 1, 4096, 80, Some((1, 16, 4))),
            (true, 1, 4096, 111, Some((1, 64, 1))),
            (true, 1, 1, 128, Some((1, 1, 8))),
        ] {
            let case = format!("{adds}, {rows} rows, {keys} keys, D{dim}");
            let plan = shared(&device(32, adds), rows, keys, dim);
            let spread = split.map_or(Spread::Lane, |(rows, lanes, columns)| Spread::Split {
                rows,
                lanes,
                columns,
            });
            assert_eq!(plan.tile.spread, spread, "{case}");
            if let Some((rows, ..)) = split {
                assert_eq!(plan.rows_per_cube(), rows, "{case}");
                for plan in [plan]
                    .into_iter()
                    .chain(plan.variants(&device(32, adds), false))
                {
                    let RowTile { tokens, spread, .. } = plan.tile;
                    assert_eq!(plan.tile.slots(), tokens, "{case}");
                    assert_eq!(plan.units as usize, rows * spread.lanes_per_row(), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_vector_registers_lanes_have_rows_of_their_own_in_smaller_cubes() {
        for (rows, units) in [(1, 8), (9, 16), (100, 64)] {
            let plan = shared(&device(8, true), rows, 4096, 64);
            assert_eq!(plan.tile.spread, Spread::Lane, "{rows} rows");
            assert_eq!(plan.units, units, "{rows} rows");
        }
    }

    #[test]
    fn keys_of_shared_rows_are_in_parts_where_one_would_have_to_set_sums_aside() {
        let device = device(32, false);
        let plan = shared(&device, 32, 100_000, 64);
        let most = plan.tile.most_tokens_at_once();
        let parts = |keys| Parts::new(&device.hardware, &plan, 1000, keys, plan.tile.block);
        assert_eq!(parts(most), None);
        let parts = parts(3 * most + 1).expect("a lane's sums would be too long");
        assert_eq!(parts.count, 4);
        assert_eq!(plan.tile.steps_until_aside(parts.tokens), None);
    }
}
