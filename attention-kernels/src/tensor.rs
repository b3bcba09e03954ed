//! Tensors as the kernels take them: a buffer, a shape, strides.

use cubecl::{ir::ElemType, server::Handle};

/// A strided tensor of four dimensions in a device buffer. A view (transposed, sliced, broadcast)
/// costs no copy.
#[derive(Debug, Clone)]
pub struct TensorRef {
    /// The buffer; its offset is the position of the first element.
    pub handle: Handle,
    /// `[batch, heads, sequence, dim]`
    pub shape: [usize; 4],
    /// Distance between neighbours along each dimension, in elements. Dimensions of size 1 may
    /// have any stride.
    pub strides: [usize; 4],
    /// The element type of the buffer.
    pub elem: ElemType,
}

impl TensorRef {
    /// A row-major tensor that fills its buffer.
    pub fn contiguous(handle: Handle, shape: [usize; 4], elem: ElemType) -> Self {
        let strides = [
            shape[1] * shape[2] * shape[3],
            shape[2] * shape[3],
            shape[3],
            1,
        ];
        Self {
            handle,
            shape,
            strides,
            elem,
        }
    }
}
