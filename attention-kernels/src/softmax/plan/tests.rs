use cubecl::Device;

use super::*;

/// A walk's plan on a device without a card, with planes of so many lanes.
fn plan(plane: u32, walk: Walk, dim: usize, elem: FloatKind) -> Plan {
    let mut properties: DeviceProperties = Device::cpu()
        .expect("the feature is on")
        .client()
        .properties()
        .clone();
    properties.hardware.num_cpu_cores = None;
    properties.hardware.max_units_per_cube = 1024;
    properties.hardware.plane_size_max = plane;
    Plan::new(&properties, walk, dim, ElemType::Float(elem))
}

#[test]
fn a_processors_vector_registers_multiply_copies_of_f32() {
    for (plane, elem, rows, widened) in [
        (8, FloatKind::F16, ROWS, true),
        (16, FloatKind::BF16, ROWS, true),
        (8, FloatKind::F16, ROWS - 1, false),
        (32, FloatKind::F16, ROWS, false),
        (8, FloatKind::F32, ROWS, false),
    ] {
        let plan = plan(plane, Walk::Forward, 64, elem).unless_few(rows);
        assert_eq!(
            plan.tile.widened, widened,
            "{elem:?}, planes of {plane}, {rows} rows"
        );
    }
}

#[test]
fn a_software_rasterizers_threads_claim_the_rows_of_a_backward() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
    for (plane, walk, expected) in [
        (8, Walk::Query, threads),
        (8, Walk::Backward, threads),
        (8, Walk::Forward, 1),
        (32, Walk::Backward, 1),
    ] {
        let plan = plan(plane, walk, 64, FloatKind::F32);
        assert_eq!(plan.copies(), 1, "{walk:?}, planes of {plane}, unclaimed");
        let claimed = plan.claiming(1);
        assert_eq!(claimed.copies(), expected, "{walk:?}, planes of {plane}");
        // The copies would not fit along the axis of the batch.
        let many = plan.claiming(65535);
        assert_eq!(
            many.copies(),
            1,
            "{walk:?}, planes of {plane}, a large batch"
        );
    }
}

#[test]
fn a_cores_forward_has_three_groups_of_rows_where_they_leave_few_lanes_empty() {
    let properties: DeviceProperties = Device::cpu()
        .expect("the feature is on")
        .client()
        .properties()
        .clone();
    let elem = ElemType::Float(FloatKind::F32);
    let plan = Plan {
        lanes: 16,
        most_groups: 3,
        ..Plan::new(&properties, Walk::Forward, 64, elem)
    };
    for (rows, mapped, groups) in [
        (1024, false, 3),
        (1024, true, 2),
        (256, false, 2),
        (48, false, 3),
        (17, false, 2),
        (1, false, 1),
    ] {
        let tile = plan.for_rows(rows, mapped).tile;
        assert_eq!(tile.groups, groups, "{rows} rows, mapped: {mapped}");
    }
}

#[test]
fn a_step_has_as_many_tokens_as_the_walks_sums_leave_room_for() {
    for (plane, walk, dim, tokens) in [
        (8, Walk::Forward, 128, 6),
        (8, Walk::Query, 128, 6),
        (8, Walk::Backward, 128, 6),
        (8, Walk::Backward, 64, 6),
        (8, Walk::Backward, 256, 3),
        (32, Walk::Forward, 128, 4),
        (32, Walk::Query, 128, 2),
        (32, Walk::Backward, 128, 2),
        (32, Walk::Backward, 512, 1),
    ] {
        let tile = plan(plane, walk, dim, FloatKind::F32).tile;
        assert_eq!(
            (tile.tokens, tile.block),
            (tokens, tokens),
            "{walk:?}, D{dim}, planes of {plane}"
        );
    }
}
