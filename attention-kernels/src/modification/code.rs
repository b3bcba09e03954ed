//! A score modification, a mask and factors of probabilities as one call takes them.

use attention_core::AttentionError;
use cubecl::{ir::DeviceProperties, prelude::*};

use super::{
    CapturedData, CapturedValues, Mask, Place, ScoreMod, Table, WeightMod, demand::check_demands,
    function::Expanded, mask::MaskCode, score::Step, weight::Factor,
};

/// What is compiled into a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Code {
    steps: Vec<Step>,
    mask: Option<MaskCode>,
    factors: Vec<Factor>,
}

/// A score modification, a mask and factors of probabilities without their tensors: what an operation carries beside them.
///
/// Tensors of one kind lie one after the other in one buffer, so that a device's limit on buffers
/// is no limit on what may be captured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modification {
    pub(crate) code: Code,
    /// The lengths of the tensors, and the numbers.
    pub(crate) values: CapturedValues<u32>,
}

/// The tensors that a modification captured, in the order in which those of a kind have to lie in
/// their buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct CapturedTensors<F, I> {
    /// Floats.
    pub floats: Vec<F>,
    /// Integers.
    pub integers: Vec<I>,
    /// The entries of learned tables.
    pub tables: Vec<F>,
}

impl Modification {
    /// Splits modification and mask from the tensors that they captured. `lengths` tells how many
    /// elements a tensor has.
    pub fn new<F, I>(
        score: Option<ScoreMod<F, I>>,
        mask: Option<Mask<F, I>>,
        weight: Option<WeightMod<F, I>>,
        lengths: (impl Fn(&F) -> u32, impl Fn(&I) -> u32),
    ) -> (Self, CapturedTensors<F, I>) {
        let mut values = CapturedValues::default();
        let steps = score.map_or_else(Vec::new, |score| {
            values.append(score.captured);
            score.steps
        });
        let mask = mask.map(|mask| {
            let code = mask.code.shifted(values.tally());
            values.append(mask.captured);
            code
        });
        let factors = weight.map_or_else(Vec::new, |weight| {
            let by = values.tally();
            values.append(weight.captured);
            let factors = weight.factors.into_iter();
            factors.map(|factor| factor.shifted(by)).collect()
        });
        let lengths = CapturedValues {
            floats: values.floats.iter().map(&lengths.0).collect(),
            integers: values.integers.iter().map(lengths.1).collect(),
            numbers: values.numbers,
            counts: values.counts,
            tables: values
                .tables
                .iter()
                .map(|table| Table {
                    entries: (lengths.0)(&table.entries),
                    slots: table.slots,
                })
                .collect(),
        };
        let modification = Self {
            code: Code {
                steps,
                mask,
                factors,
            },
            values: lengths,
        };
        let tables = values.tables.into_iter().map(|table| table.entries);
        let tensors = CapturedTensors {
            floats: values.floats,
            integers: values.integers,
            tables: tables.collect(),
        };
        (modification, tensors)
    }

    /// Refuses functions that read values which they did not capture.
    pub(crate) fn check_demands(
        &self,
        properties: &DeviceProperties,
    ) -> Result<(), AttentionError> {
        let Code {
            steps,
            mask,
            factors,
        } = &self.code;
        let mut demands: Vec<_> = steps.iter().map(|step| step.demand(properties)).collect();
        demands.extend(mask.iter().flat_map(|mask| mask.demands(properties)));
        demands.extend(factors.iter().map(|factor| factor.demand(properties)));
        check_demands("modification", &demands, self.values.tally())
    }

    /// Whether there is a mask.
    pub fn masks(&self) -> bool {
        self.code.masks()
    }

    /// How many elements of floats, of integers and of learned tables it captured.
    pub fn captured_elements(&self) -> [usize; 3] {
        let sum = |lengths: &[u32]| lengths.iter().map(|&length| length as usize).sum();
        let tables: Vec<_> = self.values.tables.iter().map(|t| t.entries).collect();
        [
            sum(&self.values.floats),
            sum(&self.values.integers),
            sum(&tables),
        ]
    }
}

impl Code {
    pub fn modifies(&self) -> bool {
        !self.steps.is_empty()
    }

    /// The steps that look a table up, and which of them.
    pub fn lookups(&self) -> impl Iterator<Item = (usize, usize)> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(|(index, step)| Some((index, step.table()?)))
    }

    /// The steps up to the one of this index, that included, and what follows with the mask.
    pub fn split_after(&self, index: usize) -> (Self, Self) {
        let (before, after) = self.steps.split_at(index + 1);
        (
            Self {
                steps: before.to_vec(),
                mask: None,
                factors: Vec::new(),
            },
            Self {
                steps: after.to_vec(),
                mask: self.mask.clone(),
                factors: self.factors.clone(),
            },
        )
    }

    pub fn masks(&self) -> bool {
        self.mask.is_some()
    }

    pub fn reweighs(&self) -> bool {
        !self.factors.is_empty()
    }

    /// Whether the derivative of a score by its product differs from 1.
    pub fn bends(&self) -> bool {
        self.steps.iter().any(Step::bends)
    }
}

/// The modified scores.
#[cube]
pub(crate) fn modified<N: Size>(
    score: Vector<f32, N>,
    at: &Place,
    data: &CapturedData,
    #[comptime] code: Code,
) -> Vector<f32, N> {
    intrinsic!(|scope| {
        let mut score: Expanded<f32> = score.expand.into();
        for step in &code.steps {
            score = step.score(scope, score, at, data);
        }
        score.expand.into()
    })
}

/// The derivative of [`modified`] by the score.
#[cube]
pub(crate) fn slope<N: Size>(
    score: Vector<f32, N>,
    at: &Place,
    data: &CapturedData,
    #[comptime] code: Code,
) -> Vector<f32, N> {
    intrinsic!(|scope| {
        let one = Vector::<f32, N>::__expand_new(scope, 1.0f32.into());
        let mut slope: Expanded<f32> = one.expand.into();
        let mut score: Expanded<f32> = score.expand.into();
        for step in &code.steps {
            slope = step.slope(scope, slope, score.clone(), at, data);
            score = step.score(scope, score, at, data);
        }
        slope.expand.into()
    })
}

/// The slots of the table that the lookup adds which is the last step.
#[cube]
pub(crate) fn slots<N: Size>(
    at: &Place,
    data: &CapturedData,
    #[comptime] code: Code,
) -> Vector<u32, N> {
    intrinsic!(|scope| {
        let lookup = code
            .steps
            .last()
            .expect("invariant: asked only where there is one");
        lookup.slots(scope, at, data).expand.into()
    })
}

/// `value` times the factor of the lookup which is the last step.
#[cube]
pub(crate) fn scaled<N: Size>(
    value: Vector<f32, N>,
    at: &Place,
    data: &CapturedData,
    #[comptime] code: Code,
) -> Vector<f32, N> {
    intrinsic!(|scope| {
        let lookup = code
            .steps
            .last()
            .expect("invariant: asked only where there is one");
        lookup
            .scaled(scope, value.expand.into(), at, data)
            .expand
            .into()
    })
}

/// `value` times the factors of probabilities.
#[cube]
pub(crate) fn reweighed<N: Size>(
    value: Vector<f32, N>,
    at: &Place,
    data: &CapturedData,
    #[comptime] code: Code,
) -> Vector<f32, N> {
    intrinsic!(|scope| {
        let mut value: Expanded<f32> = value.expand.into();
        for factor in &code.factors {
            value = factor.times(scope, value, at, data);
        }
        value.expand.into()
    })
}

/// Whether the keys are seen.
#[cube]
pub(crate) fn visible<N: Size>(
    at: &Place,
    data: &CapturedData,
    #[comptime] code: Code,
) -> Vector<bool, N> {
    intrinsic!(|scope| {
        let mask = code
            .mask
            .as_ref()
            .expect("invariant: asked only where there is one");
        mask.expand(scope, at, data).expand.into()
    })
}
