//! Which keys a query sees, as code.

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

/// Which keys a query sees: `true` where it does.
///
/// `F` and `I` are the types of captured tensors. Masks combine: [`and`](Self::and),
/// [`or`](Self::or), [`not`](Self::not).
#[derive(Debug, Clone, PartialEq)]
pub struct Mask<F, I = F> {
    pub(super) code: MaskCode,
    pub(super) captured: CapturedValues<F, I>,
}

/// The code of a mask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum MaskCode {
    /// A function, and where its captured values begin among those of the call.
    Function(Function<OfPlace<bool>>, Tally),
    And(Box<MaskCode>, Box<MaskCode>),
    Or(Box<MaskCode>, Box<MaskCode>),
    Not(Box<MaskCode>),
}

captures!(Mask);

impl<F, I> Mask<F, I> {
    /// The mask of a `#[cube]` function, given as `function::expand`.
    pub fn new<M: PlaceFunction<bool>>(visible: M) -> Self {
        let function: Function<OfPlace<bool>> = Function::new::<M>(Arc::new(visible));
        Self {
            code: MaskCode::Function(function, Tally::default()),
            captured: CapturedValues::default(),
        }
    }

    /// A key is seen if both masks show it.
    pub fn and(self, other: Self) -> Self {
        self.combined(other, MaskCode::And)
    }

    /// A key is seen if either mask shows it.
    pub fn or(self, other: Self) -> Self {
        self.combined(other, MaskCode::Or)
    }

    /// A key is seen if the mask hides it.
    #[expect(clippy::should_implement_trait, reason = "it goes with `and` and `or`")]
    pub fn not(self) -> Self {
        Self {
            code: MaskCode::Not(Box::new(self.code)),
            ..self
        }
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
        let demands = self.code.demands(properties);
        check_demands(argument, &demands, self.captured.tally())
    }

    fn combined(mut self, other: Self, how: fn(Box<MaskCode>, Box<MaskCode>) -> MaskCode) -> Self {
        let shifted = other.code.shifted(self.captured.tally());
        self.captured.append(other.captured);
        Self {
            code: how(Box::new(self.code), Box::new(shifted)),
            ..self
        }
    }
}

impl MaskCode {
    /// What its functions read of what they captured, from left to right.
    pub fn demands(&self, properties: &DeviceProperties) -> Vec<Demand> {
        match self {
            Self::Function(function, first) => vec![Demand {
                name: function.name(),
                needs: function.needs(properties),
                first: *first,
            }],
            Self::And(a, b) | Self::Or(a, b) => {
                let mut demands = a.demands(properties);
                demands.extend(b.demands(properties));
                demands
            }
            Self::Not(a) => a.demands(properties),
        }
    }

    /// The same code with its captured values behind `by` others.
    pub fn shifted(self, by: Tally) -> Self {
        let boxed = |code: Box<Self>| Box::new(code.shifted(by));
        match self {
            Self::Function(function, first) => Self::Function(function, by.plus(first)),
            Self::And(a, b) => Self::And(boxed(a), boxed(b)),
            Self::Or(a, b) => Self::Or(boxed(a), boxed(b)),
            Self::Not(a) => Self::Not(boxed(a)),
        }
    }

    pub fn expand(
        &self,
        scope: &Scope,
        at: &PlaceExpand,
        data: &CapturedDataExpand,
    ) -> Expanded<bool> {
        let part = |code: &Self| code.expand(scope, at, data);
        match self {
            Self::Function(function, first) => (function.expand)(scope, at, &data.view(*first)),
            Self::And(a, b) => both::expand(scope, part(a), part(b)),
            Self::Or(a, b) => either::expand(scope, part(a), part(b)),
            Self::Not(a) => opposite::expand(scope, part(a)),
        }
    }
}

#[cube]
fn both(a: Vector<bool, Lanes>, b: Vector<bool, Lanes>) -> Vector<bool, Lanes> {
    a.vec_and(b)
}

#[cube]
fn either(a: Vector<bool, Lanes>, b: Vector<bool, Lanes>) -> Vector<bool, Lanes> {
    a.or(b)
}

#[cube]
fn opposite(a: Vector<bool, Lanes>) -> Vector<bool, Lanes> {
    !a
}
