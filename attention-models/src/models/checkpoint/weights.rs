use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{DType, TensorData};
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{
    ApplyError, FloatCastAdapter, ModuleAdapter, ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter,
    SafetensorsStore, SafetensorsStoreError, bridge,
};

use serde::Deserialize;

use super::folder::read_json;
use super::format::Format;
use super::names::{HeadLayout, Location, NameTable};
use super::place::{Place, Wanted};
use super::view::View;
use super::{CheckpointError, TensorProblem};

/// Open files of weights. Tensors are read when a module takes them, not before.
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
    heads: Option<HeadLayout>,
}

/// What an index of shards says.
#[derive(Deserialize)]
struct Index {
    /// The shard of each tensor.
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Reads the header of the file.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unreadable`] when there is no such file, [`CheckpointError::Weights`]
    /// when it is truncated or is no safetensors file.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let mut store = SafetensorsStore::from_file(path);
        let tensors = store.get_all_tensors().map_err(|error| match error {
            SafetensorsStoreError::Io(error) => CheckpointError::Unreadable {
                path: path.to_path_buf(),
                reason: error.to_string(),
            },
            error => CheckpointError::Weights {
                path: path.to_path_buf(),
                format: "safetensors",
                reason: error.to_string(),
            },
        })?;
        Ok(Self::new(path.to_path_buf(), tensors.clone()))
    }

    /// Reads the headers of all shards that the index `*.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) for each shard, [`CheckpointError::Config`] for an index without
    /// a usable `weight_map`, [`CheckpointError::Tensors`] with every tensor that its shard lacks.
    pub fn open_shards(index: &Path) -> Result<Self, CheckpointError> {
        let Index { weight_map } = read_json(index)?;
        let mut shards = BTreeMap::new();
        for file in weight_map.values() {
            // A name that leaves the folder would read anything.
            if Path::new(file).file_name() != Some(OsStr::new(file)) {
                return Err(CheckpointError::Config {
                    path: index.to_path_buf(),
                    reason: format!("`weight_map` names `{file}`; accepted: a file of the folder"),
                });
            }
            if !shards.contains_key(file) {
                shards.insert(file, Self::open(&index.with_file_name(file))?.tensors);
            }
        }
        let mut all = Self::new(index.to_path_buf(), BTreeMap::new());
        let mut problems = Vec::new();
        for (name, file) in &weight_map {
            match shards[file].get(name) {
                Some(tensor) => {
                    all.tensors.insert(name.clone(), tensor.clone());
                }
                None => problems.push(TensorProblem::Data {
                    name: name.clone(),
                    reason: format!("the index says that it is in `{file}`, and it is not"),
                }),
            }
        }
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(all.refuse(problems))
        }
    }

    pub(super) fn new(path: PathBuf, tensors: BTreeMap<String, StoredTensor>) -> Self {
        Self {
            path,
            tensors,
            heads: None,
        }
    }

    /// Completes a format by what this file has.
    pub(super) fn describe(&self, format: Format) -> Format {
        let shapes = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shape.to_vec()));
        let prefix = format.prefix_among(self.tensors.keys().map(String::as_str));
        let format = format.with_prefix(prefix).with_shapes(shapes.collect());
        let kept = self.tensors.iter().filter(|(name, _)| format.keeps(name));
        let kept = kept.filter_map(|(name, tensor)| {
            let data = bridge::to_data(tensor).ok()?;
            Some((name.clone(), data))
        });
        let kept = kept.collect();
        let format = format.with_kept(kept);
        match self.heads {
            Some(layout) => format.with_heads(layout),
            None => format,
        }
    }

    /// Whether the file has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors and their data.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Tensors`] when a tensor cannot be read.
    pub fn data(&self) -> Result<BTreeMap<String, TensorData>, CheckpointError> {
        self.tensors
            .iter()
            .map(|(name, tensor)| match bridge::to_data(tensor) {
                Ok(data) => Ok((name.clone(), data)),
                Err(error) => Err(self.refuse(vec![TensorProblem::Data {
                    name: name.clone(),
                    reason: error.to_string(),
                }])),
            })
            .collect()
    }

    /// How a fused query-key-value projection of this file groups its heads, where it
    /// interleaves them: needed for [`Source::Heads`](super::Source::Heads).
    #[must_use]
    pub fn with_heads(mut self, layout: HeadLayout) -> Self {
        self.heads = Some(layout);
        self
    }

    /// Gives the module the file's tensors, as `f32`, in Burn's layouts.
    ///
    /// Tensors of the same elements in the same order are taken whatever their shape: axes of
    /// length 1, and the kernel of a convolution where the module has a matrix.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Tensors`] with every tensor that is missing, unknown, mis-shaped or
    /// unreadable.
    pub fn load_into<M: Module>(
        &self,
        mut module: M,
        table: &NameTable,
    ) -> Result<M, CheckpointError> {
        let prefix = table.prefix_among(self.tensors.keys().map(String::as_str));
        let contains = |name: &str| self.contains(name);
        let mut used = BTreeSet::new();
        let mut ready = Vec::new();
        let mut problems = Vec::new();
        for place in Place::of_all(&module, table, prefix, contains) {
            let found = self.tensors.get(&place.location.name);
            let fitted = place
                .view(self.heads)
                .and_then(|view| fit(found, &place.wanted, &place.location, view));
            used.insert(place.location.name);
            match fitted {
                Ok(tensor) => ready.push(tensor),
                Err(problem) if problems.contains(&problem) => {}
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(
            self.tensors
                .iter()
                .filter(|(name, _)| !used.contains(*name) && !table.ignores(name, prefix))
                .map(|(name, tensor)| TensorProblem::Extra {
                    name: name.clone(),
                    given: tensor.shape.to_vec(),
                }),
        );
        if problems.is_empty() {
            let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
            let result = module.apply(ready, None, Some(Box::new(adapter)), false);
            problems = result.errors.into_iter().map(as_problem).collect();
        }
        if problems.is_empty() {
            Ok(module)
        } else {
            Err(self.refuse(problems))
        }
    }

    fn refuse(&self, problems: Vec<TensorProblem>) -> CheckpointError {
        CheckpointError::Tensors {
            path: self.path.clone(),
            problems,
        }
    }
}

/// The file's tensor under the module's name and in the module's shape.
fn fit(
    found: Option<&StoredTensor>,
    wanted: &Wanted,
    location: &Location,
    view: View,
) -> Result<StoredTensor, TensorProblem> {
    let Some(found) = found else {
        return Err(TensorProblem::Missing {
            name: location.name.clone(),
            accepted: view.file_shape,
        });
    };
    if !found.dtype.is_float() {
        return Err(TensorProblem::Data {
            name: location.name.clone(),
            reason: format!("its type is {:?}; accepted: floating point", found.dtype),
        });
    }
    if !same_elements(&found.shape, &view.file_shape) {
        return Err(TensorProblem::Shape {
            name: location.name.clone(),
            given: found.shape.to_vec(),
            accepted: view.file_shape,
        });
    }
    let mut tensor = found.clone();
    tensor.name = wanted.name.clone();
    if view.is_whole() && found.shape == wanted.shape {
        return Ok(tensor);
    }
    let (name, dtype, shape) = (wanted.name.clone(), tensor.dtype, wanted.shape.clone());
    let take = move |data: TensorData| {
        let bytes = view.gather(data.as_bytes(), dtype.size());
        TensorData::from_bytes_vec(bytes, shape.clone(), dtype)
    };
    let shape = wanted.shape.clone();
    Ok(bridge::map_data(tensor, name, dtype, shape, take))
}

/// Whether a row-major tensor of one shape can be read as the other: they differ by axes of
/// length 1, or by how the columns of a matrix are split into axes.
fn same_elements(given: &[usize], accepted: &[usize]) -> bool {
    let without_ones = |shape: &[usize]| -> Vec<usize> {
        shape
            .iter()
            .copied()
            .filter(|length| *length != 1)
            .collect()
    };
    let columns = |shape: &[usize]| shape[1..].iter().product::<usize>();
    without_ones(given) == without_ones(accepted)
        || accepted.len() == 2
            && given.len() > 2
            && given[0] == accepted[0]
            && columns(given) == columns(accepted)
}

fn as_problem(error: ApplyError) -> TensorProblem {
    let reason = error.to_string();
    let (ApplyError::ShapeMismatch { path, .. }
    | ApplyError::DTypeMismatch { path, .. }
    | ApplyError::AdapterError { path, .. }
    | ApplyError::LoadError { path, .. }) = error;
    TensorProblem::Data { name: path, reason }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights")
            .field("path", &self.path)
            .field("tensors", &self.tensors.len())
            .finish()
    }
}
