//! Row-major arrays of four dimensions.

use crate::AttentionError;

/// A row-major array of four dimensions. Nothing is checked when it is built: the oracle refuses an
/// array whose data does not fill its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Array4<T> {
    /// The size of each dimension.
    pub shape: [usize; 4],
    /// The elements; the last dimension varies fastest.
    pub data: Vec<T>,
}

/// `[batch, heads, sequence, dim]` in `f64`.
pub type Tensor4 = Array4<f64>;

/// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`; `true` hides the key from the query.
pub type Mask4 = Array4<bool>;

impl<T: Copy> Array4<T> {
    /// An array of this shape over these elements.
    pub fn new(shape: [usize; 4], data: Vec<T>) -> Self {
        Self { shape, data }
    }

    /// The element at an index. A dimension of 1 is broadcast: any index reads its one entry.
    ///
    /// # Panics
    /// When the index lies outside of the data.
    ///
    /// ```
    /// use attention_core::oracle::Mask4;
    ///
    /// let padding = Mask4::new([1, 1, 1, 2], vec![false, true]);
    /// assert!(padding.get([0, 7, 3, 1]));
    /// ```
    pub fn get(&self, index: [usize; 4]) -> T {
        self.data[self.offset(index)]
    }

    /// Like [`Array4::get`], for writing.
    pub(super) fn get_mut(&mut self, index: [usize; 4]) -> &mut T {
        let offset = self.offset(index);
        &mut self.data[offset]
    }

    /// The last dimension at `[batch, head, position]`.
    pub(super) fn row(&self, batch: usize, head: usize, position: usize) -> &[T] {
        let start = self.offset([batch, head, position, 0]);
        &self.data[start..start + self.shape[3]]
    }

    /// Like [`Array4::row`], for writing.
    pub(super) fn row_mut(&mut self, batch: usize, head: usize, position: usize) -> &mut [T] {
        let start = self.offset([batch, head, position, 0]);
        &mut self.data[start..start + self.shape[3]]
    }

    /// Everything of one head, row-major.
    pub(super) fn head_mut(&mut self, batch: usize, head: usize) -> &mut [T] {
        let len = self.shape[2] * self.shape[3];
        let start = self.offset([batch, head, 0, 0]);
        &mut self.data[start..start + len]
    }

    /// Refuses an array whose data does not fill its shape.
    pub(super) fn check_len(&self, argument: &'static str) -> Result<(), AttentionError> {
        let elements = self
            .shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements == Some(self.data.len()) {
            return Ok(());
        }
        Err(AttentionError::Value {
            argument,
            given: format!("{} elements", self.data.len()),
            accepted: format!("as many elements as its shape {:?} has", self.shape),
        })
    }

    fn offset(&self, index: [usize; 4]) -> usize {
        self.shape
            .iter()
            .zip(index)
            .fold(0, |offset, (&size, position)| {
                offset * size + if size == 1 { 0 } else { position }
            })
    }
}

impl Tensor4 {
    /// Zeros of this shape.
    pub fn zeros(shape: [usize; 4]) -> Self {
        Self::new(shape, vec![0.0; shape.iter().product()])
    }
}

/// `sum_d a[d] b[d]`
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `into += factor * term`
pub(super) fn add_scaled(into: &mut [f64], factor: f64, term: &[f64]) {
    for (into, term) in into.iter_mut().zip(term) {
        *into += factor * term;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dimension_varies_fastest() {
        let array = Array4::new([2, 1, 3, 4], (0..24).collect());
        assert_eq!(array.get([1, 0, 2, 3]), 23);
        assert_eq!(array.row(1, 0, 1), [16, 17, 18, 19]);
    }

    #[test]
    fn a_dimension_of_one_is_broadcast() {
        let array = Array4::new([1, 2, 1, 3], (0..6).collect());
        assert_eq!(array.get([5, 1, 9, 2]), 5);
    }

    #[test]
    fn a_head_is_one_contiguous_block() {
        let mut array = Tensor4::zeros([2, 2, 3, 1]);
        array.head_mut(1, 0).fill(1.0);
        assert_eq!(array.data, [0., 0., 0., 0., 0., 0., 1., 1., 1., 0., 0., 0.]);
    }

    #[test]
    fn a_shape_too_large_to_count_is_refused_rather_than_wrapped() {
        let array = Tensor4::new([usize::MAX, 2, 1, 1], Vec::new());
        assert!(array.check_len("query").is_err());
    }
}
