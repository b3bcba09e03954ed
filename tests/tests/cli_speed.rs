//! `attention bench` and `attention roofline` as a user meets them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{attention, path, stderr};

#[test]
fn bench_measures_the_shapes_that_the_filter_names() {
    let folder = tempdir().expect("a scratch folder");
    let json = folder.path().join("bench.json");
    let output = attention(&[
        "bench",
        "--device",
        "cpu",
        "--quick",
        "--filter",
        "D64 N256 f32 causal forward+",
        "--json",
        path(&json),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = fs::read(&json).expect("the file was written");
    let report: Value = serde_json::from_slice(&text).expect("it is JSON");
    let shapes = report["shapes"].as_array().expect("a list");
    assert_eq!(shapes.len(), 1);
    let (shape, ours) = (&shapes[0], shapes[0]["ours_seconds"].as_f64());
    assert_eq!(
        (&shape["head_dim"], &shape["seq"], &shape["causal"]),
        (&64.into(), &256.into(), &true.into())
    );
    assert!(ours.expect("a number") > 0.0);
    // On the CPU Burn's own attention is flex's, and cubek's kernel does not run.
    assert_eq!(shape["burn_seconds"], shape["flex_seconds"]);
    assert!(shape["cubek_unit_seconds"].is_null());
}

#[test]
fn bench_measures_the_default_plan_beside_the_tuners_choice() {
    let shape = "D64 N256 f32 causal forward+backward";
    let output = attention(&[
        "bench", "--device", "cpu", "--quick", "--tuned", "--filter", shape,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let row = text.lines().find_map(|line| line.split_once(shape));
    let (_, numbers) = row.expect("a row of the shape");
    let numbers: Vec<f64> = numbers
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [planned, tuned, ratio] = numbers[..] else {
        panic!("default, tuned and their ratio, not {numbers:?}");
    };
    assert!(planned > 0.0 && tuned > 0.0);
    assert!((ratio - planned / tuned).abs() < 0.02, "{numbers:?}");
}

#[test]
fn bench_refuses_a_filter_that_leaves_no_shape() {
    let output = attention(&["bench", "--device", "cpu", "--filter", "N257"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("`N257`"), "{}", stderr(&output));
}

/// Answers as the Python of `attention bench --peers` does, with one time for every run.
#[cfg(unix)]
fn pretended_peers(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = r#"#!/bin/sh
while read -r request; do
    case $request in
        *hello*) echo '{"torch": "9.8.7", "onnxruntime": null}' ;;
        *prepare*) echo '{"how": "pretended"}' ;;
        *run*) echo '{"seconds": [0.25, 0.5, 0.5]}' ;;
        *) echo '{"refused": "not known"}' ;;
    esac
done
"#;
    let program = folder.join("peers");
    fs::write(&program, script).expect("the folder can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, executable).expect("the file is ours");
    program
}

#[cfg(unix)]
#[test]
fn bench_reports_the_peers_that_a_python_has() {
    let folder = tempdir().expect("a scratch folder");
    let peers = pretended_peers(folder.path());
    let output = attention(&[
        "bench",
        "--device",
        "cpu",
        "--quick",
        "--filter",
        "D64 N256 f32 forward+",
        "--peers",
        path(&peers),
        "--note",
        "onnxruntime is not there",
        "--report",
        path(folder.path()),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("it was written");
    let page = read("cpu.md");
    for part in ["x torch", "torch 9.8.7", "onnxruntime is not there"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!page.contains("x onnxruntime"), "{page}");
    let report: Value = serde_json::from_str(&read("cpu.json")).expect("it is JSON");
    let shape = &report["shapes"][0];
    assert_eq!(shape["torch_seconds"], 0.5);
    assert!(shape["onnxruntime_seconds"].is_null());
    for picture in ["cpu-f32.svg", "cpu-roofline.svg"] {
        assert!(read(picture).contains("</svg>"), "{picture}");
    }
}

#[cfg(unix)]
#[test]
fn bench_refuses_peers_that_are_no_python() {
    let output = attention(&["bench", "--device", "cpu", "--peers", "/nowhere/python3"]);
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(text.contains("`/nowhere/python3` does not start"), "{text}");
}

#[test]
fn roofline_predicts_for_devices_that_are_not_there_and_names_its_sources() {
    let folder = tempdir().expect("a scratch folder");
    let shape = "D128 N4096 f16 causal forward";
    let output = attention(&[
        "roofline",
        "--shape",
        shape,
        "--report",
        path(folder.path()),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let page = fs::read_to_string(folder.path().join("roofline.md")).expect("it was written");
    for part in [shape, "H100 SXM", "MI300X", "data sheet", "assumed"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!page.contains("f32 forward"), "{page}");
}

#[test]
fn roofline_refuses_a_shape_that_it_has_not() {
    let output = attention(&["roofline", "--shape", "D64 N257"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("`D64 N257`"),
        "{}",
        stderr(&output)
    );
}
