//! Slices in parts for every core, in the widest vectors that it has.

/// What one core does sooner than a second one starts.
pub(super) const LEAST: usize = 1 << 17;

/// `work` on parts of whole rows.
pub(super) fn rows(values: &mut [f32], width: usize, work: impl Fn(&mut [f32]) + Sync) {
    rows_from(values, width, |_, values| work(values));
}

/// `work` on parts of whole rows, told the number of the first.
pub(super) fn rows_from(values: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let numbers = values.len();
    assert!(
        width > 0 && numbers.is_multiple_of(width),
        "{numbers} numbers are no rows of {width}"
    );
    let part = LEAST.max(share(numbers)).next_multiple_of(width);
    in_parts(values, part, |first, values| {
        work(first / width, values);
    });
}

/// How many of so many numbers a core gets.
pub(super) fn share(numbers: usize) -> usize {
    numbers.div_ceil(rayon::current_num_threads())
}

/// `work` on parts of so many numbers, on all cores, told the place of the first.
pub(super) fn in_parts(values: &mut [f32], part: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let part = part.max(1);
    if values.len() <= part {
        return work(0, values);
    }
    let work = &work;
    rayon::in_place_scope(|scope| {
        let mut parts = values.chunks_mut(part).enumerate();
        let own = parts.next();
        for (index, values) in parts {
            scope.spawn(move |_| work(index * part, values));
        }
        if let Some((_, values)) = own {
            work(0, values);
        }
    });
}

/// What an expression gives, compiled for the widest vectors that this processor has. Its functions have to be
/// `#[inline(always)]`: what is called is compiled for the narrowest.
macro_rules! widest {
    ($work:expr) => {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || $work,
        )
    };
}
pub(super) use widest;
