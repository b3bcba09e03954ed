//! What a function reads of what it captured, found out before a kernel is compiled with it.

use std::{any::TypeId, cell::Cell, collections::BTreeMap, rc::Rc, sync::Mutex};

use attention_core::AttentionError;
use cubecl::{
    ir::{AddressType, DeviceProperties, Scope},
    prelude::*,
};

use super::{
    CapturedDataExpand, Lanes, Place,
    captured::{CapturedExpand, Tally},
    function::{Function, OfPlace, OfScore},
    place::PlaceExpand,
};

/// Where a function that is only tried notes how many captured values of each kind it needs.
#[derive(Clone, Default)]
pub(crate) struct Notes(Option<Rc<Cell<Tally>>>);

impl Notes {
    /// Whether the function is only tried: then `needed` is noted, and there is no value to read.
    pub fn takes(&self, needed: Tally) -> bool {
        if let Some(notes) = &self.0 {
            notes.set(notes.get().max(needed));
        }
        self.0.is_some()
    }
}

/// A function of a call: how many captured values it needs, and where its own begin.
pub(crate) struct Demand {
    pub name: &'static str,
    pub needs: Tally,
    pub first: Tally,
}

/// Refuses a function that needs values which it did not capture: they would be another's.
/// `demands` are all functions of a call, in the order of their values, which are `total`.
pub(crate) fn check_demands(
    argument: &'static str,
    demands: &[Demand],
    total: Tally,
) -> Result<(), AttentionError> {
    let ends = demands.iter().skip(1).map(|next| next.first);
    for (demand, end) in demands.iter().zip(ends.chain([total])) {
        let captured = end.minus(demand.first);
        let kinds = demand.needs.kinds().into_iter().zip(captured.kinds());
        for (([reads, captures], needs), (_, has)) in kinds {
            if needs > has {
                return Err(AttentionError::Value {
                    argument,
                    given: format!("`{}`, which reads `{reads}({})`", demand.name, needs - 1),
                    accepted: format!("at least {needs} `{captures}` for it, not {has}"),
                });
            }
        }
    }
    Ok(())
}

impl<T: Scalar> Function<OfPlace<T>> {
    /// How many captured values of each kind it reads.
    pub fn needs(&self, properties: &DeviceProperties) -> Tally {
        tried(self.id(), properties, |scope, at, captured| {
            (self.expand)(scope, at, captured);
        })
    }
}

impl Function<OfScore> {
    /// How many captured values of each kind it reads.
    pub fn needs(&self, properties: &DeviceProperties) -> Tally {
        tried(self.id(), properties, |scope, at, captured| {
            let score = some_score::expand(scope);
            (self.expand)(scope, score, at, captured);
        })
    }
}

/// Expands a function for its notes alone, the first time that it is seen.
fn tried(
    function: TypeId,
    properties: &DeviceProperties,
    expand: impl FnOnce(&Scope, &PlaceExpand, &CapturedExpand),
) -> Tally {
    static KNOWN: Mutex<BTreeMap<TypeId, Tally>> = Mutex::new(BTreeMap::new());
    let known = || {
        KNOWN
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    };
    if let Some(&needs) = known().get(&function) {
        return needs;
    }
    let scope = Scope::root(KernelSettings::new(
        CubeDim::new_1d(1).into(),
        ExecutionMode::Unchecked,
        AddressType::U32,
    ));
    scope.device_properties(properties);
    scope.register_size::<Lanes>(1);
    let notes = Rc::new(Cell::new(Tally::default()));
    let captured = CapturedExpand {
        data: CapturedDataExpand::nothing(&scope),
        first: Tally::default(),
        notes: Notes(Some(notes.clone())),
    };
    expand(&scope, &some_place::expand(&scope), &captured);
    known().insert(function, notes.get());
    notes.get()
}

/// A place that is not known at compile time, so that no branch of a function is left out.
#[cube]
fn some_place() -> Place {
    Place {
        batch: UNIT_POS,
        head: UNIT_POS,
        query: Vector::new(UNIT_POS),
        key: Vector::new(UNIT_POS),
    }
}

#[cube]
fn some_score() -> Vector<f32, Lanes> {
    Vector::cast_from(UNIT_POS)
}
