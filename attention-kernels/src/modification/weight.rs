//! Factors of probabilities, as code.

use std::sync::Arc;

use attention_core::AttentionError;
use cubecl::{
    ir::{DeviceProperties, Scope},
    prelude::*,
};

use super::{
    Lanes,
    captured::{CapturedDataExpand, CapturedValues, Tally, captures},
    demand::{Demand, check_demands},
    function::{Expanded, Function, OfPlace, PlaceFunction},
    place::PlaceExpand,
};

/// What becomes of a probability between the softmax and the product with the values: it is
/// multiplied by a factor, and not normalised again. Dropout is one.
///
/// `F` and `I` are the types of captured tensors. Factors follow each other: [`then`](Self::then).
#[derive(Debug, Clone, PartialEq)]
pub struct WeightMod<F, I = F> {
    pub(super) factors: Vec<Factor>,
    pub(super) captured: CapturedValues<F, I>,
}

/// A factor, and where its captured values begin among those of the call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Factor {
    function: Function<OfPlace<f32>>,
    first: Tally,
}

captures!(WeightMod);

impl<F, I> WeightMod<F, I> {
    /// `probability * factor(at, captured)`; `factor` is the expansion of a `#[cube]` function.
    pub fn new<W: PlaceFunction<f32>>(factor: W) -> Self {
        Self {
            factors: vec![Factor {
                function: Function::new::<W>(Arc::new(factor)),
                first: Tally::default(),
            }],
            captured: CapturedValues::default(),
        }
    }

    /// This factor times `next`.
    pub fn then(mut self, next: Self) -> Self {
        let by = self.captured.tally();
        self.captured.append(next.captured);
        let next = next.factors.into_iter().map(|factor| factor.shifted(by));
        self.factors.extend(next);
        self
    }

    /// Refuses functions that read values which they did not capture.
    ///
    /// # Errors
    /// [`AttentionError::Value`]
    pub fn validate(
        &self,
        argument: &'static str,
        properties: &DeviceProperties,
    ) -> Result<(), AttentionError> {
        let demands = self.factors.iter().map(|factor| factor.demand(properties));
        check_demands(
            argument,
            &demands.collect::<Vec<_>>(),
            self.captured.tally(),
        )
    }
}

impl Factor {
    /// What its function reads of what it captured.
    pub fn demand(&self, properties: &DeviceProperties) -> Demand {
        Demand {
            name: self.function.name(),
            needs: self.function.needs(properties),
            first: self.first,
        }
    }

    /// The same factor with its captured values behind `by` others.
    pub fn shifted(self, by: Tally) -> Self {
        Self {
            first: by.plus(self.first),
            ..self
        }
    }

    /// `value` times the factor.
    pub fn times(
        &self,
        scope: &Scope,
        value: Expanded<f32>,
        at: &PlaceExpand,
        data: &CapturedDataExpand,
    ) -> Expanded<f32> {
        let factor = (self.function.expand)(scope, at, &data.view(self.first));
        scaled::expand(scope, value, factor)
    }
}

#[cube]
fn scaled(a: Vector<f32, Lanes>, b: Vector<f32, Lanes>) -> Vector<f32, Lanes> {
    a * b
}
