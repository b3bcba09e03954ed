//! The crossing between flex's memory and that of the CubeCL CPU runtime.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use attention_core::AttentionError;
use attention_kernels::TensorRef;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::{BoolStore, Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use cubecl::{
    client::Client, cpu::compute::server::CpuServer, ir::DeviceProperties, server::Handle,
};
use rayon::prelude::*;

use super::{super::refused, twins};

/// The CubeCL CPU runtime, opened on first use.
pub(super) fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| cubecl::Device::Cpu(Default::default()).client())
}

/// Its properties.
pub(in super::super) fn properties() -> &'static DeviceProperties {
    client().properties()
}

/// A tensor whose strides a kernel can follow: only a flipped one, whose strides are negative, is
/// laid out anew.
pub(super) fn plain(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().has_positive_strides() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A tensor whose elements lie one after the other.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

/// A result of a kernel as a tensor: it keeps the buffer, and copies only when written to.
pub(super) fn download(
    handle: Handle,
    shape: Shape,
    dtype: DType,
) -> Result<FlexTensor, AttentionError> {
    let bytes = client().read_one(handle).map_err(refused)?;
    Ok(FlexTensor::new(bytes, Layout::contiguous(shape), dtype))
}

/// [`download`] of what the backward pass will read: it finds the buffer again.
pub(super) fn download_kept(
    handle: Handle,
    shape: Shape,
    dtype: DType,
) -> Result<FlexTensor, AttentionError> {
    let tensor = download(handle.clone(), shape, dtype)?;
    twins::remember(&tensor.data_arc(), byte_span(&tensor), handle);
    Ok(tensor)
}

/// Part of a flex storage and its copy.
struct Region {
    storage: Arc<Bytes>,
    bytes: Range<usize>,
    copy: Handle,
    kept: bool,
}

/// What some tensors cover of their storages, copied once: views of one storage that overlap, as
/// the parts of a packed query-key-value projection do, share a copy. What was kept of a forward pass
/// is not copied again.
pub(super) struct Uploads {
    regions: Vec<Region>,
}

impl Uploads {
    pub(super) fn new(tensors: &[&FlexTensor]) -> Result<Self, AttentionError> {
        // A buffer of no bytes cannot be bound to a kernel.
        const SMALLEST: usize = size_of::<f32>();
        let mut regions = Vec::new();
        let mut buffers = Vec::new();
        for (storage, bytes) in covered(tensors) {
            let found = twins::find(&storage, &bytes);
            let kept = found.is_some();
            let (bytes, copy) = match found {
                Some(twin) => twin,
                None => {
                    let copy = client().empty(bytes.len().max(SMALLEST));
                    let memory = client().get_resource::<CpuServer>(copy.clone());
                    let memory = memory.map_err(refused)?;
                    buffers.push((storage.clone(), bytes.clone(), memory));
                    (bytes, copy)
                }
            };
            regions.push(Region {
                storage,
                bytes,
                copy,
                kept,
            });
        }
        copy(buffers.iter_mut().map(|(storage, bytes, memory)| {
            let target = &mut memory.resource_mut().write()[..bytes.len()];
            (&storage[bytes.clone()], target)
        }));
        Ok(Self { regions })
    }

    /// Keeps the copies for the backward pass, as long as their tensors live.
    pub(super) fn keep(&self) {
        for region in self.regions.iter().filter(|region| !region.kept) {
            twins::remember(&region.storage, region.bytes.clone(), region.copy.clone());
        }
    }

    /// A contiguous tensor of rank 1 that was uploaded, as `[1, 1, 1, elements]`.
    pub(super) fn flat(&self, tensor: &FlexTensor) -> TensorRef {
        let view = self.view(tensor);
        TensorRef::contiguous(view.handle, [1, 1, 1, view.shape[0]], view.elem)
    }

    /// A tensor that was uploaded, of rank 4, or of rank 3 with a last dimension of 1 to come.
    pub(super) fn view(&self, tensor: &FlexTensor) -> TensorRef {
        let span = byte_span(tensor);
        let storage = tensor.data_arc();
        let region = self
            .regions
            .iter()
            .find(|region| Arc::ptr_eq(&region.storage, &storage) && contains(&region.bytes, &span))
            .expect("invariant: every tensor that is viewed was uploaded");

        let (mut shape, mut strides) = ([1; 4], [1; 4]);
        let layout = tensor.layout();
        for (axis, (&size, &stride)) in layout.shape().iter().zip(layout.strides()).enumerate() {
            shape[axis] = size;
            strides[axis] = stride.unsigned_abs();
        }
        TensorRef {
            handle: region
                .copy
                .clone()
                .offset_start((span.start - region.bytes.start) as u64),
            shape,
            strides,
            elem: dtype_to_elem_type(stored_as(tensor.dtype())),
        }
    }
}

/// The parts of storages that the tensors cover.
fn covered(tensors: &[&FlexTensor]) -> Vec<(Arc<Bytes>, Range<usize>)> {
    let mut parts: Vec<(Arc<Bytes>, Range<usize>)> = Vec::new();
    for tensor in tensors {
        let (storage, span) = (tensor.data_arc(), byte_span(tensor));
        let shared = parts.iter_mut().find(|(other, bytes)| {
            Arc::ptr_eq(other, &storage) && bytes.start < span.end && span.start < bytes.end
        });
        match shared {
            Some((_, bytes)) => {
                *bytes = bytes.start.min(span.start)..bytes.end.max(span.end);
            }
            None => parts.push((storage, span)),
        }
    }
    parts
}

/// From the first byte of a tensor to its last, within its storage.
fn byte_span(tensor: &FlexTensor) -> Range<usize> {
    let layout = tensor.layout();
    if layout.num_elements() == 0 {
        return 0..0;
    }
    let last: usize = layout
        .shape()
        .iter()
        .zip(layout.strides())
        .map(|(&size, &stride)| (size - 1) * stride.unsigned_abs())
        .sum();
    let (start, size) = (layout.start_offset(), tensor.dtype().size());
    start * size..(start + last + 1) * size
}

pub(super) fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Copies with every core: a single one does not reach the memory's speed.
fn copy<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a mut [u8])>) {
    /// Bytes that are copied sooner than a second core starts.
    const LEAST: usize = 1 << 20;
    /// Bytes that a core takes at a time.
    const PIECE: usize = 1 << 18;
    let pairs: Vec<_> = pairs.collect();
    let bytes: usize = pairs.iter().map(|(bytes, _)| bytes.len()).sum();
    if bytes <= LEAST {
        for (bytes, target) in pairs {
            target.copy_from_slice(bytes);
        }
    } else {
        let pieces: Vec<_> = pairs
            .into_iter()
            .flat_map(|(bytes, target)| bytes.chunks(PIECE).zip(target.chunks_mut(PIECE)))
            .collect();
        let pieces = pieces.into_par_iter().with_max_len(1);
        pieces.for_each(|(bytes, target)| target.copy_from_slice(bytes));
    }
}

/// Flex keeps a boolean in a byte.
fn stored_as(dtype: DType) -> DType {
    match dtype {
        DType::Bool(_) => DType::Bool(BoolStore::U8),
        dtype => dtype,
    }
}
