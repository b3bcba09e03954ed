//! Plans for fewer rows than a cube has units, where units are lanes.

use cubecl::ir::DeviceProperties;

use super::plan::{Plan, has_vector_planes};
use crate::tile::{RowTile, Spread};

/// Units of the smallest cube, where planes are not smaller.
const FEWEST_UNITS: u32 = 32;

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

    /// The same plan with lanes that share so few rows, each with a part of the `keys`. The lanes of a processor's
    /// vector register stay with the same key, which they then read as one.
    pub fn sharing_rows(
        self,
        properties: &DeviceProperties,
        rows: usize,
        keys: usize,
        mapped: bool,
    ) -> Self {
        let rows = rows.next_power_of_two();
        let lanes = self.units as usize / rows;
        let lanes = lanes.min(1 << (keys / self.tile.tokens).max(1).ilog2());
        if self.tile_per_unit || mapped || lanes < 2 || has_vector_planes(properties) {
            return self.for_lanes_of(properties, rows);
        }
        self.shared_by(rows, lanes, self.tile.tokens)
    }

    /// So many lanes to each of so many rows, and tokens of a step to each lane.
    fn shared_by(self, rows: usize, lanes: usize, tokens: usize) -> Self {
        Self {
            tile: RowTile {
                tokens,
                block: tokens * lanes,
                spread: Spread::Split { rows, lanes },
                ..self.tile
            },
            units: (rows * lanes) as u32,
            ..self
        }
    }

    /// Other plans for shared rows that a device might run faster.
    pub(super) fn shared_variants(&self, rows: usize, lanes: usize) -> Vec<Self> {
        let tokens = self.tile.tokens;
        let short = (tokens > 1).then(|| self.shared_by(rows, lanes, tokens / 2));
        let narrow = (lanes > 2).then(|| self.shared_by(rows, lanes / 2, tokens));
        [short, narrow].into_iter().flatten().collect()
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use cubecl::{
        Device,
        ir::{ElemType, FloatKind},
    };

    use super::*;
    use crate::softmax::{plan::Walk, split::Parts};

    /// A device without cores, with planes of so many lanes.
    fn device(plane: u32) -> DeviceProperties {
        let mut properties = Device::cpu()
            .expect("the feature is on")
            .client()
            .properties()
            .clone();
        properties.hardware.num_cpu_cores = None;
        properties.hardware.max_units_per_cube = 1024;
        properties.hardware.plane_size_max = plane;
        properties.hardware.num_streaming_multiprocessors = Some(1);
        properties
    }

    fn shared(device: &DeviceProperties, rows: usize, keys: usize, mapped: bool) -> Plan {
        let plan = Plan::new(device, Walk::Forward, 64, ElemType::Float(FloatKind::F32));
        plan.sharing_rows(device, rows, keys, mapped)
    }

    #[test]
    fn lanes_without_a_row_take_keys_of_one_that_has_few() {
        for (rows, keys, split) in [
            (1, 4096, Some((1, 64))),
            (5, 4096, Some((8, 8))),
            (32, 4096, Some((32, 2))),
            (33, 4096, None),
            (1, 33, Some((1, 4))),
            (1, 15, None),
        ] {
            let plan = shared(&device(32), rows, keys, false);
            let spread = split.map_or(Spread::Lane, |(rows, lanes)| Spread::Split { rows, lanes });
            assert_eq!(plan.tile.spread, spread, "{rows} rows, {keys} keys");
            if let Some((rows, lanes)) = split {
                assert_eq!(plan.units as usize, rows * lanes);
                assert_eq!(plan.rows_per_cube(), rows);
                assert_eq!(plan.tile.slots(), plan.tile.tokens);
            }
        }
    }

    #[test]
    fn a_vector_registers_lanes_have_rows_of_their_own_in_smaller_cubes() {
        for (plane, rows, mapped, units) in [
            (8, 1, false, 8),
            (8, 9, false, 16),
            (8, 100, false, 64),
            (32, 1, true, 32),
            (64, 40, true, 64),
        ] {
            let plan = shared(&device(plane), rows, 4096, mapped);
            assert_eq!(plan.tile.spread, Spread::Lane, "{rows} rows");
            assert_eq!(plan.units, units, "planes of {plane}, {rows} rows");
        }
    }

    #[test]
    fn keys_of_shared_rows_are_in_parts_where_one_would_have_to_set_sums_aside() {
        let device = device(32);
        let plan = shared(&device, 32, 100_000, false);
        let most = plan.tile.most_tokens_at_once();
        let parts = |keys| Parts::new(&device.hardware, &plan, 1000, keys, plan.tile.block);
        assert_eq!(parts(most), None);
        let parts = parts(3 * most + 1).expect("a lane's sums would be too long");
        assert_eq!(parts.count, 4);
        assert_eq!(plan.tile.steps_until_aside(parts.tokens), None);
    }
}
