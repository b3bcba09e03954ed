//! Conformance of the reference models: what other people's code computed from the same weights
//! and inputs.

mod clip;
mod decoders;
mod diffusion;
mod encoders;
mod seq2seq;
mod swin;
mod vit;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Device, TensorData};

use crate::models::checkpoint::Weights;

/// The models that are known here, a line for each group.
const GROUPS: [&Group; 8] = [
    &vit::GROUP,
    &swin::GROUP,
    &clip::GROUP,
    &encoders::GROUP,
    &encoders::DEBERTA,
    &decoders::GROUP,
    &seq2seq::GROUP,
    &diffusion::GROUP,
];

/// Models that one function runs.
struct Group {
    /// The names of their goldens.
    names: &'static [&'static str],
    /// Loads the model in a folder, and computes of the golden's inputs at least the outputs that are wanted. Beside
    /// an output `NAME` may stand `NAME.compared`, of its leading axes: `false` where the output means nothing.
    compute: fn(&Path, &Values, &[&str], &Device) -> Result<Values>,
}

/// Inputs or outputs by their names in a golden, without `in.` and `out.`.
type Values = BTreeMap<String, TensorData>;

/// The largest error that passes, relative to the largest value of the golden output.
const BOUND: f64 = 1e-4;

/// One compared output.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The output's name in the golden.
    pub name: String,
    /// The type in which the model ran.
    pub dtype: &'static str,
    /// The largest error, relative to the largest value of the golden output.
    pub worst_error: f64,
    /// The largest error that passes.
    pub bound: f64,
}

impl Row {
    /// Whether the error is within the bound.
    pub fn passes(&self) -> bool {
        self.worst_error.is_finite() && self.worst_error <= self.bound
    }
}

/// Whether a golden of this name can be checked.
pub fn is_known(name: &str) -> bool {
    group(name).is_some()
}

fn group(name: &str) -> Option<&'static Group> {
    GROUPS.into_iter().find(|group| group.names.contains(&name))
}

/// Runs the model in the folder `weights`, and compares every output of the golden `file` (`in.*` and `out.*`). Floats
/// are compared by their largest error, whole numbers exactly.
///
/// # Errors
/// A name that is not [known](is_known), a folder that cannot be read, or an output that is not known here.
pub fn check_model_golden(
    name: &str,
    file: &Path,
    weights: &Path,
    device: &Device,
) -> Result<Vec<Row>> {
    let group = group(name).with_context(|| format!("the model `{name}` is not known here"))?;
    let golden = Weights::open(file)?.data()?;
    let part = |prefix: &str| -> Values {
        let values = golden.iter().filter_map(|(name, data)| {
            Some((name.strip_prefix(prefix)?.to_string(), data.clone()))
        });
        values.collect()
    };
    let (inputs, expected) = (part("in."), part("out."));
    let wanted: Vec<_> = expected.keys().map(String::as_str).collect();
    let computed = (group.compute)(weights, &inputs, &wanted, device)?;
    let row = |(name, expected): (&String, &TensorData)| -> Result<Row> {
        let given = computed.get(name);
        let given = given.with_context(|| format!("output `{name}` is not known here"))?;
        let compared = computed.get(&format!("{name}.compared"));
        let error = error(given, expected, compared).with_context(|| format!("output `{name}`"))?;
        Ok(Row {
            name: name.clone(),
            dtype: "f32",
            worst_error: error,
            bound: BOUND,
        })
    };
    expected.iter().map(row).collect()
}

/// The part of the numbers that differ, where they are whole, else as [`relative_error`] has it.
fn error(given: &TensorData, expected: &TensorData, compared: Option<&TensorData>) -> Result<f64> {
    ensure!(
        given.shape() == expected.shape(),
        "its shape is {:?}; expected: {:?}",
        given.shape(),
        expected.shape()
    );
    if let Some(compared) = compared {
        let part = |data| only(data, compared);
        return error(&part(given)?, &part(expected)?, None);
    }
    if expected.dtype() != DType::I64 {
        return relative_error(given, expected);
    }
    let pairs = given.iter::<i64>().zip(expected.iter::<i64>());
    let different = pairs.filter(|(given, expected)| given != expected).count();
    Ok(different as f64 / expected.num_elements().max(1) as f64)
}

/// The rows of `data` for which `compared`, of its leading axes, is `true`.
fn only(data: &TensorData, compared: &TensorData) -> Result<TensorData> {
    ensure!(
        data.shape().starts_with(compared.shape()),
        "it is compared by {:?}; its shape is {:?}",
        compared.shape(),
        data.shape()
    );
    let width = data.num_elements() / compared.num_elements().max(1);
    let values: Vec<f32> = data.iter::<f32>().collect();
    let rows = values.chunks(width.max(1)).zip(compared.iter::<bool>());
    let rows: Vec<_> = rows.filter(|(_, compared)| *compared).collect();
    let values: Vec<f32> = rows.into_iter().flat_map(|(row, _)| row.to_vec()).collect();
    let count = values.len();
    Ok(TensorData::new(values, [count]))
}

/// The largest difference over the largest expected value; infinite where a value is not a number.
fn relative_error(given: &TensorData, expected: &TensorData) -> Result<f64> {
    let (given, expected) = (given.as_slice::<f32>()?, expected.as_slice::<f32>()?);
    let largest = expected
        .iter()
        .fold(0.0f64, |max, x| max.max(f64::from(x.abs())));
    let errors = given
        .iter()
        .zip(expected)
        .map(|(given, expected)| (f64::from(*given) - f64::from(*expected)).abs());
    let worst = errors.fold(0.0f64, |worst, error| {
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    });
    Ok(worst / largest.max(f64::MIN_POSITIVE))
}
