//! Score modifications as code.

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
    function::{Expanded, Function, OfPlace, OfScore, PlaceFunction, ScoreFunction},
    place::PlaceExpand,
    table::{Table, existing_slots, table_entries},
};

/// What becomes of a score between the product and the softmax.
///
/// `F` and `I` are the types of captured tensors. Modifications follow each other:
/// [`then`](Self::then).
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreMod<F, I = F> {
    pub(super) steps: Vec<Step>,
    pub(super) captured: CapturedValues<F, I>,
}

/// One modification, and where its captured values begin among those of the call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    rule: Rule,
    first: Tally,
}

/// How a modification depends on the score, which decides its derivative.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Rule {
    /// `score + term`
    Add(Function<OfPlace<f32>>),
    /// `score * factor`
    Multiply(Function<OfPlace<f32>>),
    /// Anything, with its derivative by the score.
    Map(Function<OfScore>, Function<OfScore>),
    /// `score + table[slot]`, or `score + table[slot] * factor`.
    Lookup(Function<OfPlace<u32>>, Option<Function<OfPlace<f32>>>),
}

captures!(ScoreMod);

impl<F, I> ScoreMod<F, I> {
    /// `score + term(at, captured)`; `term` is the expansion of a `#[cube]` function.
    pub fn additive(term: impl PlaceFunction<f32>) -> Self {
        Self::of(Rule::Add(of_place(term)))
    }

    /// `score * factor(at, captured)`; `factor` is the expansion of a `#[cube]` function.
    pub fn multiplicative(factor: impl PlaceFunction<f32>) -> Self {
        Self::of(Rule::Multiply(of_place(factor)))
    }

    /// `score(score, at, captured)`, and its derivative by the score, asked at the same score; both
    /// are expansions of `#[cube]` functions.
    pub fn map(score: impl ScoreFunction, derivative: impl ScoreFunction) -> Self {
        Self::of(Rule::Map(of_score(score), of_score(derivative)))
    }

    /// `score + table[slot(at, captured)]`, where the table is learned: it receives a gradient.
    ///
    /// `table` has `slots` entries, which all heads share, or `heads * slots`, those of each query
    /// head one after the other. Beyond its end, `slot` means the last one.
    pub fn lookup(table: F, slots: u32, slot: impl PlaceFunction<u32>) -> Self {
        Self::of_table(table, slots, slot, None)
    }

    /// `score + table[slot(at, captured)] * factor(at, captured)`, where the table is learned, as in
    /// [`lookup`](Self::lookup).
    pub fn scaled_lookup(
        table: F,
        slots: u32,
        slot: impl PlaceFunction<u32>,
        factor: impl PlaceFunction<f32>,
    ) -> Self {
        Self::of_table(table, slots, slot, Some(of_place(factor)))
    }

    fn of_table<S: PlaceFunction<u32>>(
        table: F,
        slots: u32,
        slot: S,
        factor: Option<Function<OfPlace<f32>>>,
    ) -> Self {
        let slot: Function<OfPlace<u32>> = Function::new::<S>(Arc::new(slot));
        let mut lookup = Self::of(Rule::Lookup(slot, factor));
        lookup.captured.tables.push(Table {
            entries: table,
            slots,
        });
        lookup
    }

    /// This modification, and `next` of what it gives.
    pub fn then(mut self, next: Self) -> Self {
        let by = self.captured.tally();
        self.captured.append(next.captured);
        self.steps.extend(next.steps.into_iter().map(|step| Step {
            first: by.plus(step.first),
            ..step
        }));
        self
    }

    /// How many modifications follow each other.
    pub fn steps(&self) -> usize {
        self.steps.len()
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
        let demands = self.steps.iter().map(|step| step.demand(properties));
        check_demands(
            argument,
            &demands.collect::<Vec<_>>(),
            self.captured.tally(),
        )
    }

    fn of(rule: Rule) -> Self {
        Self {
            steps: vec![Step {
                rule,
                first: Tally::default(),
            }],
            captured: CapturedValues::default(),
        }
    }
}

fn of_place<T: PlaceFunction<f32>>(function: T) -> Function<OfPlace<f32>> {
    Function::new::<T>(Arc::new(function))
}

fn of_score<T: ScoreFunction>(function: T) -> Function<OfScore> {
    Function::new::<T>(Arc::new(function))
}

impl Step {
    /// What its functions read of what they captured together.
    pub fn demand(&self, properties: &DeviceProperties) -> Demand {
        let (name, needs, other) = match &self.rule {
            Rule::Add(term) => (term.name(), term.needs(properties), None),
            Rule::Multiply(factor) => (factor.name(), factor.needs(properties), None),
            Rule::Map(map, derivative) => (
                map.name(),
                map.needs(properties),
                Some(derivative.needs(properties)),
            ),
            Rule::Lookup(slot, factor) => (
                slot.name(),
                slot.needs(properties),
                factor.as_ref().map(|factor| factor.needs(properties)),
            ),
        };
        Demand {
            name,
            needs: other.map_or(needs, |other| needs.max(other)),
            first: self.first,
        }
    }

    /// Whether the derivative differs from 1.
    pub fn bends(&self) -> bool {
        !matches!(self.rule, Rule::Add(_) | Rule::Lookup(..))
    }

    /// Which of the call's tables it looks up.
    pub fn table(&self) -> Option<usize> {
        matches!(self.rule, Rule::Lookup(..)).then_some(self.first.tables)
    }

    /// The slots of the table that a lookup adds.
    pub fn slots(
        &self,
        scope: &Scope,
        at: &PlaceExpand,
        data: &CapturedDataExpand,
    ) -> Expanded<u32> {
        let Rule::Lookup(slot, _) = &self.rule else {
            unreachable!("asked of lookups only");
        };
        let slots = (slot.expand)(scope, at, &data.view(self.first));
        existing_slots::expand(scope, data, self.first.tables, slots)
    }

    /// `value` times the factor of a lookup.
    pub fn scaled(
        &self,
        scope: &Scope,
        value: Expanded<f32>,
        at: &PlaceExpand,
        data: &CapturedDataExpand,
    ) -> Expanded<f32> {
        match &self.rule {
            Rule::Lookup(_, Some(factor)) => {
                let factor = (factor.expand)(scope, at, &data.view(self.first));
                product::expand(scope, value, factor)
            }
            _ => value,
        }
    }

    /// The modified score.
    pub fn score(
        &self,
        scope: &Scope,
        score: Expanded<f32>,
        at: &PlaceExpand,
        data: &CapturedDataExpand,
    ) -> Expanded<f32> {
        let captured = data.view(self.first);
        match &self.rule {
            Rule::Add(term) => sum::expand(scope, score, (term.expand)(scope, at, &captured)),
            Rule::Multiply(factor) => {
                product::expand(scope, score, (factor.expand)(scope, at, &captured))
            }
            Rule::Map(map, _) => (map.expand)(scope, score, at, &captured),
            Rule::Lookup(slot, _) => {
                let slots = (slot.expand)(scope, at, &captured);
                let (table, head) = (self.first.tables, at.head);
                let entries = table_entries::expand(scope, data, table, head, slots);
                sum::expand(scope, score, self.scaled(scope, entries, at, data))
            }
        }
    }

    /// `slope` times the derivative at `score`.
    pub fn slope(
        &self,
        scope: &Scope,
        slope: Expanded<f32>,
        score: Expanded<f32>,
        at: &PlaceExpand,
        data: &CapturedDataExpand,
    ) -> Expanded<f32> {
        let captured = data.view(self.first);
        let derivative = match &self.rule {
            Rule::Add(_) | Rule::Lookup(..) => return slope,
            Rule::Multiply(factor) => (factor.expand)(scope, at, &captured),
            Rule::Map(_, derivative) => (derivative.expand)(scope, score, at, &captured),
        };
        product::expand(scope, slope, derivative)
    }
}

#[cube]
fn sum(a: Vector<f32, Lanes>, b: Vector<f32, Lanes>) -> Vector<f32, Lanes> {
    a + b
}

#[cube]
fn product(a: Vector<f32, Lanes>, b: Vector<f32, Lanes>) -> Vector<f32, Lanes> {
    a * b
}
