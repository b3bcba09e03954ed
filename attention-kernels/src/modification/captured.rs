//! What functions capture: on the host, at launch, and inside a kernel.

use cubecl::{ir::Scope, prelude::*};

use super::{
    Lanes,
    demand::Notes,
    table::{Table, TableSpan, table_spans},
};

/// How many values of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tally {
    pub floats: usize,
    pub integers: usize,
    pub numbers: usize,
    pub counts: usize,
    pub tables: usize,
}

/// Values of one kind alone.
macro_rules! of_one_kind {
    ($($kind:ident),*) => {
        $(
            pub fn $kind($kind: usize) -> Self {
                Self {
                    $kind,
                    ..Self::default()
                }
            }
        )*
    };
}

impl Tally {
    of_one_kind!(floats, integers, numbers, counts);

    pub fn plus(self, other: Self) -> Self {
        self.by_kind(other, |a, b| a + b)
    }

    /// What lies between `first` and this.
    pub fn minus(self, first: Self) -> Self {
        self.by_kind(first, |end, start| end - start)
    }

    pub fn max(self, other: Self) -> Self {
        self.by_kind(other, usize::max)
    }

    /// What a function reads by index: how it does, how it captures that, and how many.
    pub fn kinds(self) -> [([&'static str; 2], usize); 4] {
        [
            (["float", "with_floats"], self.floats),
            (["integer", "with_integers"], self.integers),
            (["number", "with_number"], self.numbers),
            (["count", "with_count"], self.counts),
        ]
    }

    fn by_kind(self, other: Self, of: impl Fn(usize, usize) -> usize) -> Self {
        Self {
            floats: of(self.floats, other.floats),
            integers: of(self.integers, other.integers),
            numbers: of(self.numbers, other.numbers),
            counts: of(self.counts, other.counts),
            tables: of(self.tables, other.tables),
        }
    }
}

/// What functions captured, in the order in which they number it. `F` and `I` stand for float and
/// integer tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct CapturedValues<F, I = F> {
    /// Tensors of floats.
    pub floats: Vec<F>,
    /// Tensors of integers.
    pub integers: Vec<I>,
    /// Numbers.
    pub numbers: Vec<f32>,
    /// Integers.
    pub counts: Vec<u32>,
    /// Learned tables.
    pub tables: Vec<Table<F>>,
}

impl<F, I> Default for CapturedValues<F, I> {
    fn default() -> Self {
        Self {
            floats: Vec::new(),
            integers: Vec::new(),
            numbers: Vec::new(),
            counts: Vec::new(),
            tables: Vec::new(),
        }
    }
}

impl<F, I> CapturedValues<F, I> {
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            floats: self.floats.len(),
            integers: self.integers.len(),
            numbers: self.numbers.len(),
            counts: self.counts.len(),
            tables: self.tables.len(),
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.floats.extend(other.floats);
        self.integers.extend(other.integers);
        self.numbers.extend(other.numbers);
        self.counts.extend(other.counts);
        self.tables.extend(other.tables);
    }
}

/// The `with_…` methods of what captures values.
macro_rules! captures {
    ($name:ident) => {
        impl<F, I> $name<F, I> {
            /// Captures a tensor of floats, read flattened, in row-major order.
            pub fn with_floats(mut self, tensor: F) -> Self {
                self.captured.floats.push(tensor);
                self
            }

            /// Captures a tensor of integers, read flattened, in row-major order.
            pub fn with_integers(mut self, tensor: I) -> Self {
                self.captured.integers.push(tensor);
                self
            }

            /// Captures a number. Another number compiles no other kernel.
            pub fn with_number(mut self, number: f32) -> Self {
                self.captured.numbers.push(number);
                self
            }

            /// Captures an integer. Another integer compiles no other kernel.
            pub fn with_count(mut self, count: u32) -> Self {
                self.captured.counts.push(count);
                self
            }

            /// What was captured.
            pub fn captured(&self) -> &CapturedValues<F, I> {
                &self.captured
            }
        }
    };
}
pub(super) use captures;

/// Where a tensor lies among those of its kind, which share a buffer.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Span {
    start: u32,
    /// The last index.
    last: u32,
}

/// The values of all functions of a call.
#[derive(CubeType, CubeLaunch, Clone)]
#[expand(derive(Clone))]
pub(crate) struct CapturedData {
    floats: ComptimeOption<Box<[f32]>>,
    integers: ComptimeOption<Box<[u32]>>,
    pub(super) tables: ComptimeOption<Box<[f32]>>,
    float_spans: Sequence<Span>,
    integer_spans: Sequence<Span>,
    pub(super) table_spans: Sequence<TableSpan>,
    numbers: Sequence<f32>,
    counts: Sequence<u32>,
}

/// What one function captured. Indices count from 0 in the order of the `with_…` calls, each kind
/// for itself, and must be known when the kernel is compiled.
///
/// An index that was not captured is refused with a typed error before anything is launched.
#[derive(CubeType, Clone)]
#[expand(derive(Clone))]
pub struct Captured {
    pub(super) data: CapturedData,
    #[cube(comptime)]
    pub(super) first: Tally,
    #[cube(comptime)]
    pub(super) notes: Notes,
}

#[cube]
impl Captured {
    /// A number: [`with_number`](super::ScoreMod::with_number).
    pub fn number(&self, #[comptime] index: usize) -> f32 {
        if comptime!(self.notes.takes(Tally::numbers(index + 1))) {
            f32::cast_from(UNIT_POS)
        } else {
            *self
                .data
                .numbers
                .index(comptime!(self.first.numbers + index))
        }
    }

    /// An integer: [`with_count`](super::ScoreMod::with_count).
    pub fn count(&self, #[comptime] index: usize) -> u32 {
        if comptime!(self.notes.takes(Tally::counts(index + 1))) {
            UNIT_POS
        } else {
            *self.data.counts.index(comptime!(self.first.counts + index))
        }
    }

    /// An element of a tensor of floats, flattened: the same for every lane. Beyond its end, the
    /// last.
    pub fn float(&self, #[comptime] index: usize, element: u32) -> f32 {
        if comptime!(self.notes.takes(Tally::floats(index + 1))) {
            f32::cast_from(element)
        } else {
            let span = self
                .data
                .float_spans
                .index(comptime!(self.first.floats + index));
            let at = span.start + min(element, span.last);
            let tensors = self.data.floats.clone().unwrap();
            tensors[at as usize]
        }
    }

    /// An element of a tensor of integers, flattened: the same for every lane. Beyond its end, the
    /// last.
    pub fn integer(&self, #[comptime] index: usize, element: u32) -> u32 {
        if comptime!(self.notes.takes(Tally::integers(index + 1))) {
            element
        } else {
            let span = self
                .data
                .integer_spans
                .index(comptime!(self.first.integers + index));
            let at = span.start + min(element, span.last);
            let tensors = self.data.integers.clone().unwrap();
            tensors[at as usize]
        }
    }

    /// An element of a tensor of floats for each lane.
    pub fn floats(
        &self,
        #[comptime] index: usize,
        elements: Vector<u32, Lanes>,
    ) -> Vector<f32, Lanes> {
        let lanes = Lanes::value();
        let mut values = Vector::<f32, Lanes>::new(self.float(index, elements.extract(0usize)));
        #[unroll]
        for lane in 1..lanes {
            values.insert(lane, self.float(index, elements.extract(lane)));
        }
        values
    }

    /// An element of a tensor of integers for each lane.
    pub fn integers(
        &self,
        #[comptime] index: usize,
        elements: Vector<u32, Lanes>,
    ) -> Vector<u32, Lanes> {
        let lanes = Lanes::value();
        let mut values = Vector::<u32, Lanes>::new(self.integer(index, elements.extract(0usize)));
        #[unroll]
        for lane in 1..lanes {
            values.insert(lane, self.integer(index, elements.extract(lane)));
        }
        values
    }
}

impl CapturedDataExpand {
    /// What the function sees whose values begin at `first`.
    pub fn view(&self, first: Tally) -> CapturedExpand {
        CapturedExpand {
            data: self.clone(),
            first,
            notes: Notes::default(),
        }
    }

    /// Values of a call that captured none.
    pub fn nothing(scope: &Scope) -> Self {
        Self {
            floats: ComptimeOptionExpand::None,
            integers: ComptimeOptionExpand::None,
            tables: ComptimeOptionExpand::None,
            float_spans: Sequence::__expand_new(scope),
            integer_spans: Sequence::__expand_new(scope),
            table_spans: Sequence::__expand_new(scope),
            numbers: Sequence::__expand_new(scope),
            counts: Sequence::__expand_new(scope),
        }
    }
}

impl CapturedDataLaunch {
    /// The launch arguments of values whose tensors lie one after the other in two buffers.
    pub fn of(
        floats: Option<BufferArg>,
        integers: Option<BufferArg>,
        tables: Option<BufferArg>,
        values: &CapturedValues<u32>,
    ) -> Self {
        Self::new(
            floats.into(),
            integers.into(),
            tables.into(),
            spans(&values.floats),
            spans(&values.integers),
            table_spans(&values.tables),
            values.numbers.iter().copied().collect(),
            values.counts.iter().copied().collect(),
        )
    }
}

fn spans(lengths: &[u32]) -> SequenceArg<Span> {
    let mut start = 0;
    lengths
        .iter()
        .map(|&length| {
            let span = SpanLaunch::new(start, length.saturating_sub(1));
            start += length;
            span
        })
        .collect()
}
