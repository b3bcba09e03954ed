use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{DType, TensorData};
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{BurnToPyTorchAdapter, ModuleSnapshot, bridge};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

use super::names::{HeadLayout, NameTable};
use super::place::Place;
use super::{CheckpointError, TensorProblem};

/// How the names of tensors end that transformers has parameters for, which no model here reads: what
/// training on masked images learned, and tables of sines.
const MISSED: [&str; 2] = ["mask_token", "embed_positions.weight"];

/// How a model is written as a folder: `config.json` beside a safetensors file whose tensors
/// have the names, the shapes and the fused parts that the family's files have, so that the
/// library that the folder came from can read it.
///
/// [`Checkpoint::format`](super::Checkpoint::format) has it of a folder that was read.
#[derive(Debug, Clone)]
pub struct Format {
    config: Value,
    names: NameTable,
    prefix: &'static str,
    heads: Option<HeadLayout>,
    /// Of the tensors of the file that was read.
    shapes: Arc<BTreeMap<String, Vec<usize>>>,
    /// Tensors of that file that the model has no use for, and other readers miss.
    kept: Arc<BTreeMap<String, TensorData>>,
}

impl Format {
    /// A folder with this `config.json` and these names, without prefix.
    pub fn new(config: Value, names: NameTable) -> Self {
        Self {
            config,
            names,
            prefix: "",
            heads: None,
            shapes: Arc::default(),
            kept: Arc::default(),
        }
    }

    /// What stands before the names of the backbone.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = prefix;
        self
    }

    /// How a fused query-key-value projection groups its heads; as
    /// [`Weights::with_heads`](super::Weights::with_heads).
    #[must_use]
    pub fn with_heads(mut self, layout: HeadLayout) -> Self {
        self.heads = Some(layout);
        self
    }

    pub(super) fn prefix_among<'a>(&self, names: impl Iterator<Item = &'a str>) -> &'static str {
        self.names.prefix_among(names)
    }

    /// The shapes that a file has where the module has others of the same elements.
    pub(in crate::models) fn with_shapes(mut self, shapes: BTreeMap<String, Vec<usize>>) -> Self {
        self.shapes = Arc::new(shapes);
        self
    }

    /// Whether the model has no use for a tensor that other readers miss.
    pub(super) fn keeps(&self, name: &str) -> bool {
        let missed = MISSED.iter().any(|end| name.ends_with(end));
        missed && self.names.ignores(name, self.prefix)
    }

    /// Tensors that are written as they were read.
    pub(super) fn with_kept(mut self, kept: BTreeMap<String, TensorData>) -> Self {
        self.kept = Arc::new(kept);
        self
    }

    /// The format of a model that was read, which is kept in it; `folder` stands in the error.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`] for a model that was made, and knows none.
    pub(crate) fn of_read<'a>(
        format: &'a Option<Self>,
        folder: &Path,
    ) -> Result<&'a Self, CheckpointError> {
        format.as_ref().ok_or_else(|| CheckpointError::Config {
            path: folder.join("config.json"),
            reason: "the model was made, not read; accepted: a model that was read from a folder"
                .into(),
        })
    }

    /// What stands in `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Writes `config.json` and `model.safetensors` (diffusers:
    /// `diffusion_pytorch_model.safetensors`) into the folder, which need not exist. Tensors keep
    /// their type, which `config.json` then names. Each file is replaced as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unwritable`], or [`CheckpointError::Tensors`] with every tensor that
    /// cannot be read from the device or that does not fit the others of a fused one.
    pub fn save<M: Module>(&self, module: &M, folder: &Path) -> Result<(), CheckpointError> {
        self.save_parts([self.tensors(module)], folder)
    }

    /// [`save`](Self::save), of a model whose modules have formats of their own for the names of
    /// their tensors.
    pub(in crate::models) fn save_parts(
        &self,
        parts: impl IntoIterator<Item = Result<FileTensors, Vec<TensorProblem>>>,
        folder: &Path,
    ) -> Result<(), CheckpointError> {
        let diffusers = self.config["_class_name"].is_string();
        let file = folder.join(if diffusers {
            "diffusion_pytorch_model.safetensors"
        } else {
            "model.safetensors"
        });
        let (mut tensors, mut problems) = (FileTensors::new(), Vec::new());
        for part in parts {
            match part {
                Ok(part) => tensors.extend(part),
                Err(of_part) => problems.extend(of_part),
            }
        }
        if !problems.is_empty() {
            return Err(CheckpointError::Tensors {
                path: file,
                problems,
            });
        }
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
        write(&file, |partial| {
            let views = tensors.iter().map(|(name, tensor)| (name, tensor.view()));
            // Hugging Face's loader asks which framework wrote the file.
            let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
            safetensors::serialize_to_file(views, Some(metadata), partial)
        })?;
        let config = self.config_of(&tensors);
        let text = serde_json::to_string_pretty(&config).expect("invariant: JSON can be printed");
        write(&folder.join("config.json"), |partial| {
            std::fs::write(partial, text + "\n")
        })
    }

    /// The file's tensors out of the module's.
    pub(in crate::models) fn tensors(
        &self,
        module: &impl Module,
    ) -> Result<FileTensors, Vec<TensorProblem>> {
        let contains = |name: &str| self.shapes.contains_key(name);
        let places = Place::of_all(module, &self.names, self.prefix, contains);
        let stored = module.collect(None, Some(Box::new(BurnToPyTorchAdapter)), false);
        let mut stored: HashMap<_, _> = stored
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        let kept = self.kept.iter().map(|(name, data)| {
            let tensor = FileTensor {
                shape: data.shape().to_vec(),
                dtype: data.dtype(),
                bytes: data.as_bytes().to_vec(),
            };
            (name.clone(), tensor)
        });
        let mut tensors: FileTensors = kept.collect();
        let mut problems: Vec<_> = places
            .iter()
            .filter_map(|place| {
                let part = stored.remove(&place.wanted.name);
                self.put(place, part, &mut tensors).err()
            })
            .collect();
        problems.extend(
            tensors
                .iter()
                .filter(|(_, tensor)| tensor.safetensors_type().is_none())
                .map(|(name, tensor)| unusable(name, format!("its type is {:?}", tensor.dtype))),
        );
        if problems.is_empty() {
            Ok(tensors)
        } else {
            Err(problems)
        }
    }

    /// Puts a tensor of the module where it belongs in the file's.
    fn put(
        &self,
        place: &Place,
        part: Option<StoredTensor>,
        tensors: &mut FileTensors,
    ) -> Result<(), TensorProblem> {
        let name = &place.location.name;
        let view = place.view(self.heads)?;
        let part = part.ok_or_else(|| unusable(name, "the module does not give it"))?;
        let data = bridge::into_data(part).map_err(|error| unusable(name, error))?;
        let (dtype, element_size) = (data.dtype(), data.dtype().size());
        let elements = view.file_shape.iter().product::<usize>();
        let whole = tensors.entry(name.clone()).or_insert_with(|| {
            let read = self.shapes.get(name);
            let fits = |shape: &&Vec<usize>| shape.iter().product::<usize>() == elements;
            FileTensor {
                shape: read.filter(fits).unwrap_or(&view.file_shape).clone(),
                dtype,
                bytes: vec![0; elements * element_size],
            }
        });
        if whole.dtype != dtype || whole.bytes.len() != elements * element_size {
            return Err(unusable(name, "its parts differ in type or size"));
        }
        view.scatter(data.as_bytes(), &mut whole.bytes, element_size);
        Ok(())
    }

    /// The configuration, which names the type that most tensors have.
    fn config_of(&self, tensors: &FileTensors) -> Value {
        let mut config = self.config.clone();
        let largest = tensors.values().max_by_key(|tensor| tensor.bytes.len());
        let name = largest.map(|tensor| match tensor.dtype {
            DType::F64 => "float64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            _ => "float32",
        });
        for field in ["dtype", "torch_dtype"] {
            if let (Some(dtype), Some(name)) = (config.get_mut(field), name) {
                *dtype = name.into();
            }
        }
        config
    }
}

/// The tensors of a file by their names.
pub(in crate::models) type FileTensors = BTreeMap<String, FileTensor>;

/// A tensor as it stands in the file.
pub(in crate::models) struct FileTensor {
    shape: Vec<usize>,
    dtype: DType,
    bytes: Vec<u8>,
}

impl FileTensor {
    fn safetensors_type(&self) -> Option<Dtype> {
        Some(match self.dtype {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            _ => return None,
        })
    }

    fn view(&self) -> TensorView<'_> {
        let dtype = self.safetensors_type().expect("invariant: was checked");
        TensorView::new(dtype, self.shape.clone(), &self.bytes)
            .expect("invariant: the bytes were made for the shape")
    }
}

/// Writes beside the file and renames, so that nobody finds half a file.
fn write<E: std::fmt::Display>(
    file: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), CheckpointError> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    write(partial).map_err(|error| unwritable(partial, error))?;
    std::fs::rename(partial, file).map_err(|error| unwritable(file, error))
}

fn unwritable(path: &Path, error: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::Unwritable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

fn unusable(name: &str, reason: impl std::fmt::Display) -> TensorProblem {
    TensorProblem::Data {
        name: name.to_string(),
        reason: reason.to_string(),
    }
}
