//! A `#[cube]` function as a value that tells kernels apart.

use std::{
    any::{TypeId, type_name},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use cubecl::{ir::Scope, prelude::*};

use super::{Lanes, captured::CapturedExpand, place::PlaceExpand};

/// What an expansion gives.
pub(crate) type Expanded<T> = NativeExpand<Vector<T, Lanes>>;

/// `(at, captured) -> value`
pub(crate) type OfPlace<T> =
    dyn Fn(&Scope, &PlaceExpand, &CapturedExpand) -> Expanded<T> + Send + Sync;

/// `(score, at, captured) -> value`
pub(crate) type OfScore =
    dyn Fn(&Scope, Expanded<f32>, &PlaceExpand, &CapturedExpand) -> Expanded<f32> + Send + Sync;

/// The expansion of a `#[cube]` function `(at: &Place, captured: &Captured) -> Vector<T, Lanes>`.
pub trait PlaceFunction<T: Scalar>:
    Fn(&Scope, &PlaceExpand, &CapturedExpand) -> Expanded<T> + Copy + Send + Sync + 'static
{
}

impl<T: Scalar, F> PlaceFunction<T> for F where
    F: Fn(&Scope, &PlaceExpand, &CapturedExpand) -> Expanded<T> + Copy + Send + Sync + 'static
{
}

/// The expansion of a `#[cube]` function
/// `(score: Vector<f32, Lanes>, at: &Place, captured: &Captured) -> Vector<f32, Lanes>`.
pub trait ScoreFunction:
    Fn(&Scope, Expanded<f32>, &PlaceExpand, &CapturedExpand) -> Expanded<f32>
    + Copy
    + Send
    + Sync
    + 'static
{
}

impl<F> ScoreFunction for F where
    F: Fn(&Scope, Expanded<f32>, &PlaceExpand, &CapturedExpand) -> Expanded<f32>
        + Copy
        + Send
        + Sync
        + 'static
{
}

/// The expansion of a function, equal to another if both are the same function.
pub(crate) struct Function<S: ?Sized> {
    pub expand: Arc<S>,
    id: TypeId,
    name: &'static str,
}

impl<S: ?Sized> Function<S> {
    /// `expand` is an `F`, behind a pointer.
    pub fn new<F: 'static>(expand: Arc<S>) -> Self {
        const {
            assert!(
                size_of::<F>() == 0,
                "a kernel is compiled once for each function, so that a closure must not hold \
                 values: capture them with `with_number`, `with_count` or a tensor",
            );
        }
        Self {
            expand,
            id: TypeId::of::<F>(),
            name: type_name::<F>(),
        }
    }

    pub fn id(&self) -> TypeId {
        self.id
    }

    /// The path of the `#[cube]` function.
    pub fn name(&self) -> &'static str {
        self.name.strip_suffix("::expand").unwrap_or(self.name)
    }
}

impl<S: ?Sized> Clone for Function<S> {
    fn clone(&self) -> Self {
        Self {
            expand: self.expand.clone(),
            ..*self
        }
    }
}

impl<S: ?Sized> PartialEq for Function<S> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<S: ?Sized> Eq for Function<S> {}

impl<S: ?Sized> Hash for Function<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<S: ?Sized> fmt::Debug for Function<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
