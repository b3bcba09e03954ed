//! Which tests one process runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Environment;
use crate::process;

/// Modules whose tests compile for minutes: each of them is a group, and they begin.
const LONG: [&str; 3] = ["sweep", "goldens", "combinations"];

/// Tests of one program that run in one process: those of a module, which mostly need the same kernels.
#[derive(Debug, PartialEq)]
pub struct Group {
    /// `tests/main/maps`: package, program and module.
    pub name: String,
    pub program: PathBuf,
    /// The package's, where cargo would start the program.
    pub folder: PathBuf,
    pub tests: Vec<String>,
}

/// Builds every test program and asks it for its tests. What runs longest comes first, so that no core waits at
/// the end.
pub fn all(environment: &Environment) -> Result<Vec<Group>> {
    let mut build = environment.cargo_test();
    build
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let messages = process::capture(&mut build)?;
    let mut groups = Vec::new();
    for message in messages.lines() {
        if let Some(program) = TestProgram::built(message) {
            let mut list = environment.launch(&program.path);
            let list = process::capture(list.args(["--list", "--format", "terse"]))
                .with_context(|| format!("{} does not list its tests", program.name))?;
            groups.extend(program.groups(&list));
        }
    }
    groups.sort_by_key(|group| (!group.is_long(), !group.name.starts_with("tests/")));
    Ok(groups)
}

impl Group {
    fn is_long(&self) -> bool {
        LONG.iter()
            .any(|module| self.name.contains(&format!("/{module}::")))
    }
}

struct TestProgram {
    name: String,
    path: PathBuf,
    folder: PathBuf,
}

impl TestProgram {
    /// What cargo says it has built, where that is a test program.
    fn built(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        let tests = message["profile"]["test"].as_bool()?;
        let path = message["executable"].as_str().filter(|_| tests)?;
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        let package = folder.file_name()?.to_str()?;
        let target = message["target"]["name"].as_str()?;
        Some(Self {
            name: format!("{package}/{target}"),
            path: path.into(),
            folder: folder.to_owned(),
        })
    }

    /// By the first part of each test's path, or all of it.
    fn groups(&self, list: &str) -> Vec<Group> {
        let mut modules = BTreeMap::<&str, Vec<String>>::new();
        for test in list.lines().filter_map(|line| line.strip_suffix(": test")) {
            let module = test.split_once("::").map_or("", |(module, _)| module);
            let module = if LONG.contains(&module) { test } else { module };
            modules.entry(module).or_default().push(test.to_owned());
        }
        let group = |(module, tests)| Group {
            name: format!("{}/{module}", self.name),
            program: self.path.clone(),
            folder: self.folder.clone(),
            tests,
        };
        modules.into_iter().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: &str = r#"{"reason": "compiler-artifact", "manifest_path": "/w/tests/Cargo.toml",
        "target": {"name": "main"}, "profile": {"test": true}, "executable": "/w/target/main-1"}"#;

    #[test]
    fn a_module_is_a_group_and_so_is_each_long_test() {
        let program = TestProgram::built(BUILT).expect("it is a test program");
        let groups = program
            .groups("a::one: test\nsweep::two: test\na::c::three: test\nfour: test\nfive: benchmark\nsweep::six: test\n");
        let found: Vec<_> = groups
            .iter()
            .map(|group| (group.name.as_str(), group.tests.join(" ")))
            .collect();
        let expected = [
            ("tests/main/", "four"),
            ("tests/main/a", "a::one a::c::three"),
            ("tests/main/sweep::six", "sweep::six"),
            ("tests/main/sweep::two", "sweep::two"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, tests)| (name, tests.to_owned()))
        );
        assert!(
            groups
                .iter()
                .all(|group| group.folder == Path::new("/w/tests"))
        );
    }

    #[test]
    fn libraries_and_programs_without_tests_are_none() {
        assert!(TestProgram::built(&BUILT.replace("true", "false")).is_none());
        assert!(TestProgram::built(&BUILT.replace(r#""/w/target/main-1""#, "null")).is_none());
        assert!(TestProgram::built("not a message").is_none());
    }
}
