use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::blocks::BlockType;
use crate::models::checkpoint::CheckpointError;

/// A GGUF file whose header has been read.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
}

/// A value of a GGUF file's metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Whole numbers of all widths.
    Integer(i64),
    /// Floats of both widths.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// Values of one type.
    Array(Vec<Value>),
}

/// Where a tensor lies in the file.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// As PyTorch has it: the innermost axis last.
    pub(super) shape: Vec<usize>,
    /// The number of its type, as ggml counts them.
    pub(super) kind: u32,
    /// From the start of the file.
    offset: u64,
}

impl Gguf {
    /// Reads the header of the file: metadata, and where the tensors lie.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unreadable`] when there is no such file, [`CheckpointError::Weights`]
    /// when it is truncated, is no GGUF file, or is of a version other than 2 and 3.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let unreadable = |error: std::io::Error| CheckpointError::Unreadable {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut header = Header {
            file: BufReader::new(file),
            left: length,
        };
        header
            .read(path, length)
            .map_err(|reason| CheckpointError::Weights {
                path: path.to_path_buf(),
                format: "GGUF",
                reason,
            })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the metadata says under this key, such as `general.architecture`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The text under a key.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`] when the key is missing or has another type.
    pub fn text(&self, key: &str) -> Result<&str, CheckpointError> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            found => Err(self.mistyped(key, found, "text")),
        }
    }

    /// The count under a key.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn count(&self, key: &str) -> Result<usize, CheckpointError> {
        match self.value(key) {
            Some(Value::Integer(count)) if *count >= 0 => Ok(*count as usize),
            found => Err(self.mistyped(key, found, "a whole number from 0")),
        }
    }

    /// The number under a key.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn number(&self, key: &str) -> Result<f64, CheckpointError> {
        match self.value(key) {
            Some(Value::Float(number)) => Ok(*number),
            Some(Value::Integer(number)) => Ok(*number as f64),
            found => Err(self.mistyped(key, found, "a number")),
        }
    }

    /// The list under a key.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn list(&self, key: &str) -> Result<&[Value], CheckpointError> {
        match self.value(key) {
            Some(Value::Array(values)) => Ok(values),
            found => Err(self.mistyped(key, found, "a list")),
        }
    }

    /// The texts under a key.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, CheckpointError> {
        self.list(key)?
            .iter()
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                other => Err(self.mistyped(key, Some(other), "a list of texts")),
            })
            .collect()
    }

    /// The error for metadata that make no sense.
    pub fn invalid(&self, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::Config {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    fn mistyped(&self, key: &str, found: Option<&Value>, accepted: &str) -> CheckpointError {
        self.invalid(match found {
            None => format!("missing `{key}`; accepted: {accepted}"),
            Some(Value::Array(values)) => {
                format!(
                    "`{key}` is a list of {} values; accepted: {accepted}",
                    values.len()
                )
            }
            Some(value) => format!("`{key}` is {value:?}; accepted: {accepted}"),
        })
    }

    pub(super) fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }
}

impl TensorInfo {
    /// The stored bytes of `length` bytes.
    pub(super) fn read(&self, path: &Path, length: usize) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The part of a file that is being read.
struct Header {
    file: BufReader<File>,
    /// Bytes up to the end of the file, so that no length is believed that cannot be.
    left: u64,
}

/// The largest number of axes that ggml has.
const MAX_AXES: u32 = 4;

impl Header {
    fn read(&mut self, path: &Path, length: u64) -> Result<Gguf, String> {
        if self.take(4)? != b"GGUF" {
            return Err("it does not begin with `GGUF`".to_string());
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("it has version {version}; accepted: 2 and 3"));
        }
        let (tensors, values) = (self.u64()?, self.u64()?);
        let metadata = (0..values)
            .map(|_| {
                let (key, kind) = (self.text()?, self.u32()?);
                Ok((key, self.value(kind, 0)?))
            })
            .collect::<Result<BTreeMap<_, _>, String>>()?;
        let mut tensors = (0..tensors)
            .map(|_| self.tensor())
            .collect::<Result<Vec<_>, String>>()?;
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Integer(bytes)) if *bytes > 0 => *bytes as u64,
            Some(other) => return Err(format!("`general.alignment` is {other:?}")),
        };
        let start = (length - self.left).next_multiple_of(alignment);
        for tensor in &mut tensors {
            let end = start
                .checked_add(tensor.offset)
                .and_then(|offset| {
                    tensor.offset = offset;
                    let kind = BlockType::of(tensor.kind);
                    let bytes = kind.map_or(Some(0), |kind| kind.bytes(&tensor.shape))?;
                    offset.checked_add(bytes as u64)
                })
                .ok_or_else(|| format!("`{}` has no possible size or place", tensor.name))?;
            if end > length {
                return Err(format!(
                    "`{}` ends at byte {end}, the file at byte {length}",
                    tensor.name
                ));
            }
        }
        Ok(Gguf {
            path: path.to_path_buf(),
            metadata,
            tensors,
        })
    }

    fn tensor(&mut self) -> Result<TensorInfo, String> {
        let name = self.text()?;
        let axes = self.u32()?;
        if !(1..=MAX_AXES).contains(&axes) {
            return Err(format!(
                "`{name}` has {axes} axes; accepted: 1 to {MAX_AXES}"
            ));
        }
        let mut shape = (0..axes)
            .map(|_| self.u64().map(|length| length as usize))
            .collect::<Result<Vec<_>, String>>()?;
        shape.reverse();
        Ok(TensorInfo {
            name,
            shape,
            kind: self.u32()?,
            offset: self.u64()?,
        })
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Integer(i64::from(self.array::<1>()?[0])),
            1 => Value::Integer(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Integer(i64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Integer(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Integer(i64::from(self.u32()?)),
            5 => Value::Integer(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if depth < 4 => {
                let (kind, length) = (self.u32()?, self.u64()?);
                self.fits(length)?;
                Value::Array(
                    (0..length)
                        .map(|_| self.value(kind, depth + 1))
                        .collect::<Result<_, _>>()?,
                )
            }
            10 => Value::Integer(self.u64()? as i64),
            11 => Value::Integer(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => {
                return Err(format!(
                    "its metadata hold a value of the unknown type {kind}"
                ));
            }
        })
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes).map_err(|_| "a text of its header is not UTF-8".to_string())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("invariant: N bytes were taken"))
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, String> {
        self.fits(length)?;
        self.left -= length;
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact(&mut bytes)
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn fits(&self, length: u64) -> Result<(), String> {
        if length <= self.left {
            Ok(())
        } else {
            Err("it ends within its header".to_string())
        }
    }
}
