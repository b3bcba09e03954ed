//! Elements of f32 as sums of bf16, which matrix instructions multiply.
//!
//! bf16 has 8 bits of a significand and f32 has 24: `x = a + b + c` with `a = bf16(x)`, `b = bf16(x - a)` and
//! `c = bf16(x - a - b)` is exact, but for numbers so small that `c` has no exponent. A product of two such sums is
//! six products; the three that are left out are below 2^-25 of the whole, half of f32's last bit.

use cubecl::{
    ir::{ElemType, FloatKind},
    prelude::*,
};

use super::{Operand, padded};
use crate::tile::{Layout, RowTile};

/// Terms of an element of f32.
pub(crate) const F32_TERMS: usize = 3;

/// Which terms of a row meet which of a token, the smallest products first.
pub(super) fn products(terms: usize) -> &'static [(usize, usize)] {
    const PRODUCTS: [(usize, usize); 6] = [(0, 2), (2, 0), (1, 1), (0, 1), (1, 0), (0, 0)];
    if terms == 1 {
        &PRODUCTS[5..]
    } else {
        &PRODUCTS
    }
}

impl RowTile {
    /// Elements of an operand's row or token of so many dimensions: its terms lie one after the other.
    pub(crate) fn held(&self, dim: usize) -> usize {
        if self.terms == 1 {
            dim
        } else {
            self.terms * padded(dim)
        }
    }

    /// The element type of the operands of tensors of this one.
    pub(crate) fn operand_elem(&self, elem: ElemType) -> ElemType {
        if self.terms > 1 {
            ElemType::Float(FloatKind::BF16)
        } else if self.widened {
            ElemType::Float(FloatKind::F32)
        } else {
            elem
        }
    }
}

/// Writes the terms of `values` as the `v`-th vectors of their operands.
#[cube]
pub(super) fn store_terms<E: Float, R: Size>(
    values: Vector<f32, R>,
    operands: &mut Operand<E, R>,
    #[comptime] v: usize,
) {
    let terms = operands.len();
    let mut rest = values;
    #[unroll]
    for term in 0..terms {
        let rounded = Vector::<E, R>::cast_from(rest);
        operands.index_mut(term)[v] = rounded;
        if comptime!(term + 1 < terms) {
            rest -= Vector::<f32, R>::cast_from(rounded);
        }
    }
}

/// Writes the terms of `source` to `target`, `held` elements for a row, a vector a unit: rows one after the other,
/// those of head and batch element as they come, zeros where dimensions are padded. A single term is the element in
/// another type.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_terms<T: Float, E: Float, W: Size>(
    source: &[Vector<T, W>],
    target: &mut [Vector<E, W>],
    layout: Layout,
    heads: usize,
    seq: usize,
    rows: usize,
    #[comptime] dim: usize,
    #[comptime] held: usize,
    #[comptime] terms: usize,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _term_dtype: ElemType,
) {
    let width = W::value();
    let columns = comptime!(held / terms / width);
    let row = ABSOLUTE_POS / columns;
    let column = ABSOLUTE_POS % columns;
    if row < rows {
        let head = row / seq;
        let start =
            head / heads * layout.batch + head % heads * layout.head + row % seq * layout.seq;
        let exists = column < comptime!(dim / width);
        let read = source[start + select(exists, column, 0) * layout.dim];
        let mut rest = Vector::<f32, W>::cast_from(read);
        if !exists {
            rest = Vector::new(0.0f32);
        }
        #[unroll]
        for term in 0..terms {
            let rounded = Vector::<E, W>::cast_from(rest);
            rest -= Vector::<f32, W>::cast_from(rounded);
            target[(row * terms + term) * columns + column] = rounded;
        }
    }
}
