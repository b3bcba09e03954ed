//! GGUF files, made for tests.

use std::path::PathBuf;

use tempfile::TempDir;

/// A GGUF file in the making.
#[derive(Default)]
pub struct Writer {
    metadata: Vec<u8>,
    values: u64,
    header: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

pub const TEXT: u32 = 8;
pub const COUNT: u32 = 4;
pub const FLOAT: u32 = 6;
pub const LIST: u32 = 9;

pub fn text(value: &str) -> Vec<u8> {
    let mut bytes = (value.len() as u64).to_le_bytes().to_vec();
    bytes.extend(value.as_bytes());
    bytes
}

impl Writer {
    pub fn value(mut self, key: &str, kind: u32, value: Vec<u8>) -> Self {
        self.metadata.extend(text(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self.values += 1;
        self
    }

    pub fn count(self, key: &str, count: u32) -> Self {
        self.value(key, COUNT, count.to_le_bytes().to_vec())
    }

    /// A tensor of PyTorch's shape.
    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, data: Vec<u8>) -> Self {
        self.header.extend(text(name));
        self.header.extend((shape.len() as u32).to_le_bytes());
        let axes = shape.iter().rev();
        self.header.extend(axes.flat_map(|axis| axis.to_le_bytes()));
        self.header.extend(kind.to_le_bytes());
        self.header.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors += 1;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensors.to_le_bytes());
        bytes.extend(self.values.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.header);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub fn write(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        (folder, path)
    }
}

pub fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}
