//! Golden folders: what other people's code computed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use attention_core::DType;
use burn::tensor::Device;

use super::{
    Devices, Report,
    case::{Case, check_all},
    composed, flex, mha, operations,
};
use crate::cli::verify_models::{check_model_golden, is_known};
use crate::models::checkpoint::find;

/// A golden: a folder with `io.safetensors`, or a file of inputs and outputs of a pretrained model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// The folder's or file's name with that of the folder it lies in.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The goldens in `root`, however deep, by name.
///
/// # Errors
/// A folder that cannot be read, or that holds no golden.
pub fn golden_folders(root: &Path) -> Result<Vec<Golden>> {
    let mut goldens = Vec::new();
    collect(root, &mut goldens)?;
    goldens.sort_by(|a, b| a.name.cmp(&b.name));
    anyhow::ensure!(
        !goldens.is_empty(),
        "`--goldens` is `{}`, which holds no golden; accepted: a folder with folders that have an \
         `io.safetensors`, or with a folder `pretrained`",
        root.display()
    );
    Ok(goldens)
}

fn collect(folder: &Path, goldens: &mut Vec<Golden>) -> Result<()> {
    if folder.join("io.safetensors").is_file() {
        goldens.push(Golden::new(folder));
        return Ok(());
    }
    let entries =
        fs::read_dir(folder).with_context(|| format!("`{}` cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, goldens)?;
        } else if folder.ends_with("pretrained") && path.extension() == Some("safetensors".as_ref())
        {
            goldens.push(Golden::new(&path));
        }
    }
    Ok(())
}

impl Golden {
    /// The golden at `path`.
    pub fn new(path: &Path) -> Self {
        let part = |path: Option<&Path>| {
            let name = path.and_then(Path::file_stem).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        Self {
            name: format!("{}/{}", part(path.parent()), part(Some(path))),
            path: path.to_path_buf(),
        }
    }

    /// Checks everything in the golden, or says why it is skipped. `step` hears of each case before it runs.
    pub fn check(&self, devices: Devices<'_>, report: &mut Report, step: impl Fn(&str)) {
        step(&self.name);
        let (family, model) = self.name.split_once('/').unwrap_or(("", &self.name));
        if family == "pretrained" {
            return self.check_pretrained(model, devices.ours, report);
        }
        if let Some(read) = operations::reader(model) {
            let cases = operations::cases(&self.path, read);
            return self.check_operation(cases, devices, report, step);
        }
        if let Some(read) = composed::reader(model) {
            return match composed::checks(&self.path, read) {
                Ok(checks) => {
                    for check in checks {
                        let name = format!("{}/{}", self.name, check.name);
                        step(&name);
                        report.add(&name, check.run_on(devices));
                    }
                }
                Err(error) => report.add(&self.name, Err(error)),
            };
        }
        match model {
            "op_flex" => self.check_operation(flex::cases(&self.path), devices, report, step),
            "op_mha" => report.add(&self.name, mha::check(&self.path, devices)),
            _ if is_known(model) => {
                let file = self.path.join("io.safetensors");
                let rows = check_model_golden(model, &file, &self.path, devices.ours);
                report.add(&self.name, rows);
            }
            _ => report.skip(
                &self.name,
                "this mechanism or model is not known here yet".into(),
            ),
        }
    }

    fn check_operation(
        &self,
        cases: Result<Vec<Case>>,
        devices: Devices<'_>,
        report: &mut Report,
        step: impl Fn(&str),
    ) {
        let name = |case: &Case| format!("{}/{}", self.name, case.name);
        match cases {
            Ok(cases) => {
                let outcomes = check_all(&cases, DType::F32, devices, |case| step(&name(case)));
                for (case, rows) in cases.iter().zip(outcomes) {
                    report.add(&name(case), rows);
                }
            }
            Err(error) => report.add(&self.name, Err(error)),
        }
    }

    fn check_pretrained(&self, model: &str, device: &Device, report: &mut Report) {
        if !is_known(model) {
            return report.skip(&self.name, "this model is not known here yet".into());
        }
        match find(fetched_name(model)) {
            Ok(weights) => {
                let rows = check_model_golden(model, &self.path, &weights, device);
                report.add(&self.name, rows);
            }
            Err(error) => report.skip(&self.name, format!("{error:#}")),
        }
    }
}

/// The name by which the model of a golden in `pretrained` is fetched.
fn fetched_name(golden: &str) -> &str {
    match golden {
        "rxnmapper_albert" => "rxnmapper",
        "smollm2_135m" => "smollm2",
        name => name,
    }
}
