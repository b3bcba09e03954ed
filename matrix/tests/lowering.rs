//! A part of the matrix on every target, without any vendor's compiler.

use attention_matrix::{
    cases, gpu,
    inspect::Tools,
    run::{Plan, run},
    table::{Counts, HotLoop, Outcome, Row, regressions},
};

/// Rows of the cases whose names begin like one of these, on targets whose names contain `part`.
fn rows(part: &str, beginnings: &[&str]) -> Vec<Row> {
    let mut cases = cases::all().expect("the sizes fit every variant");
    cases.retain(|case| beginnings.iter().any(|name| case.name.starts_with(name)));
    assert!(cases.len() >= beginnings.len(), "a name fits no case");
    let plan = Plan {
        cases: &cases,
        kernel: None,
        tools: &Tools::default(),
        keep: None,
    };
    let targets = gpu::all().into_iter();
    let targets = targets.filter(|target| target.name.contains(part));
    targets
        .flat_map(|target| run(&plan, &target, |_| ()).expect("nothing is written"))
        .collect()
}

fn failures(rows: &[Row]) -> Vec<String> {
    let failed = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Failed(reason) | Outcome::Refused(reason) => Some(format!(
            "{} {} {}: {reason}",
            row.target, row.case, row.kernel
        )),
        _ => None,
    });
    failed.collect()
}

/// More buffers in the backward than WebGPU promises, which the caller is told.
fn is_refused(row: &Row) -> bool {
    matches!(&row.outcome, Outcome::Refused(reason) if reason.contains("buffers of one kernel"))
}

#[test]
fn every_option_at_once_lowers_for_every_target_forward_and_backward() {
    let mut rows = rows("", &["softmax/everything/f32"]);
    rows.retain(|row| !(row.target.starts_with("wgsl") && is_refused(row)));
    assert_eq!(failures(&rows), [""; 0]);
    for target in gpu::all() {
        let kernels = rows.iter().filter(|row| row.target == target.name);
        let whole = !target.name.starts_with("wgsl");
        let least = if whole { 5 } else { 1 };
        assert!(kernels.count() >= least, "{} lacks kernels", target.name);
    }
}

#[test]
fn code_with_a_learned_table_and_a_block_map_lowers_where_code_is_shipped() {
    for target in ["sm_90a", "gfx1100", "spirv"] {
        let rows = rows(target, &["code/alibi", "block-map/sliding_window"]);
        assert_eq!(failures(&rows), [""; 0]);
        assert!(rows.len() >= 8, "{} kernels", rows.len());
    }
}

#[test]
fn cooperative_matrices_lower_for_vulkan_and_metal_within_their_shared_memory() {
    for (target, shared) in [("spirv-cmma", 48 * 1024), ("msl", 32 * 1024)] {
        let cases = [32, 64, 128, 256].map(|dim| format!("measured/d{dim}/f16"));
        let cases = cases.each_ref().map(String::as_str);
        let mut rows = rows(target, &cases);
        assert_eq!(failures(&rows), [""; 0]);
        rows.retain(|row| row.kernel.starts_with("fragment_"));
        assert!(rows.len() >= 3 * cases.len(), "{} kernels", rows.len());
        for row in rows {
            let bytes = row.counts.shared_memory;
            assert!(
                bytes.is_none_or(|bytes| bytes <= shared),
                "{} {}",
                row.case,
                row.kernel
            );
        }
    }
}

#[test]
fn shaders_keep_the_limits_of_every_browser_or_are_refused() {
    let cases = [
        "softmax/self/f32",
        "softmax/full-mask/f32",
        "softmax/one-query/f32",
        "softmax/few-queries/f32",
        "code/",
        "block-map/causal",
        "maps/",
    ];
    let rows = rows("wgsl", &cases);
    let (refused, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_refused);
    assert_eq!(failures(&rows), [""; 0]);
    for row in rows {
        assert_eq!(row.outcome, Outcome::Compiled);
        assert!(row.counts.buffers.is_some_and(|buffers| buffers <= 8));
        assert!(
            row.counts
                .shared_memory
                .is_some_and(|bytes| bytes <= 16 * 1024)
        );
    }
    // Learned tables beside another captured tensor, and mask beside bias.
    for row in refused {
        assert!(
            ["code/relative_position_bias/f32"].contains(&row.case.as_str()),
            "{}",
            row.case
        );
    }
}

fn row(kernel: &str, spilled: u64, outcome: Outcome) -> Row {
    Row {
        target: "sm_90a".into(),
        case: "softmax/self/f32".into(),
        kernel: kernel.into(),
        outcome,
        counts: Counts {
            spilled: Some(spilled),
            ..Counts::default()
        },
    }
}

#[test]
fn a_spill_a_failure_and_a_missing_kernel_are_regressions_and_an_improvement_is_not() {
    let before = [
        row("spills", 0, Outcome::Compiled),
        row("fails", 0, Outcome::Compiled),
        row("goes", 0, Outcome::Compiled),
        row("improves", 8, Outcome::Failed("as before".into())),
        row("differs", 100, Outcome::Compiled),
    ];
    let now = [
        row("spills", 16, Outcome::Compiled),
        row("fails", 0, Outcome::Failed("no such instruction".into())),
        row("improves", 0, Outcome::Compiled),
        row("comes", 64, Outcome::Compiled),
        row("differs", 105, Outcome::Compiled),
    ];
    assert_eq!(
        regressions(&before, &now),
        [
            "sm_90a softmax/self/f32 spills has 16 spilled bytes, it had 0",
            "sm_90a softmax/self/f32 fails fails: no such instruction",
            "sm_90a softmax/self/f32 goes is gone",
        ]
    );
}

#[test]
fn a_barrier_more_and_a_smaller_matrix_share_of_the_hot_loop_are_regressions() {
    let row = |kernel: &str, matrix, barriers| Row {
        counts: Counts {
            hot_loop: Some(HotLoop {
                instructions: 200,
                matrix,
                barriers,
                ..HotLoop::default()
            }),
            ..Counts::default()
        },
        ..row(kernel, 0, Outcome::Compiled)
    };
    let before = [
        row("waits", 60, 2),
        row("thins", 60, 2),
        row("holds", 60, 2),
    ];
    let now = [
        row("waits", 60, 3),
        row("thins", 50, 2),
        row("holds", 56, 1),
    ];
    assert_eq!(
        regressions(&before, &now),
        [
            "sm_90a softmax/self/f32 waits waits at 3 barriers in a turn of its loop, before at 2",
            "sm_90a softmax/self/f32 thins has 25.0 % matrix instructions in its loop, it had 30.0 %",
        ]
    );
}
