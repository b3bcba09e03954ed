//! The example programs run to their end.

use std::{env, process::Command};

use crate::cli::program;

/// Runs an example that lies beside the built program and returns what it prints.
fn run(name: &str) -> String {
    let folder = program().with_file_name("examples");
    let program = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "`{}` is not built: cargo build --workspace --examples",
        program.display()
    );
    let output = Command::new(program).output().expect("the example starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_custom_score_modification_has_a_gradient() {
    let text = run("custom_score_modification");
    assert!(text.contains("gradient of the terms"), "{text}");
}

#[test]
fn packed_training_lowers_the_loss() {
    let text = run("packed_training");
    assert!(text.contains("step 59: loss"), "{text}");
}

#[test]
fn a_model_is_trained_by_burns_own_loop() {
    let text = run("burn_learner");
    assert!(text.contains("16 of 16 bars are found"), "{text}");
}

#[test]
fn attention_maps_come_out_of_the_kernels() {
    let text = run("attention_maps");
    assert!(text.contains("entropy"), "{text}");
}
