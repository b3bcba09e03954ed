//! Where in the score matrix a function is asked.

use cubecl::prelude::*;

/// Marks [`Lanes`].
pub struct LanesMarker;

/// How many scores a kernel handles together: 1 where a lane is a unit of a GPU, the width of a
/// vector register on a CPU.
pub type Lanes = DynamicSize<LanesMarker>;

/// A batch element, a query head, and the query and the key of each lane.
///
/// Lanes beyond the end of a sequence repeat its last position; what a function returns for them is
/// discarded.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone))]
pub struct Place {
    /// The batch element, from 0.
    pub batch: u32,
    /// The query head, from 0.
    pub head: u32,
    /// Positions of the queries in their sequence, from 0.
    pub query: Vector<u32, Lanes>,
    /// Positions of the keys in their sequence, from 0.
    pub key: Vector<u32, Lanes>,
}

/// The lanes of a kernel as those that functions are written for.
#[cube]
pub(crate) fn in_lanes<P: Scalar, N: Size>(vector: Vector<P, N>) -> Vector<P, Lanes> {
    intrinsic!(|scope| {
        scope.register_size::<Lanes>(N::__expand_value(scope));
        vector.expand.into()
    })
}
