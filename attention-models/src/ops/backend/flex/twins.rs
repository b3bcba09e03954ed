//! Which parts of flex's storages lie in the CPU runtime's memory as well, from a forward pass to
//! its backward.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use burn::tensor::Bytes;
use cubecl::server::Handle;

use super::memory::contains;

/// Part of a storage, and the same bytes in the runtime's memory.
///
/// A storage that only this knows of is gone. One that is known at all is written to only by moving
/// it elsewhere first, which ends this, so that the bytes stay the same.
struct Twin {
    storage: Weak<Bytes>,
    bytes: Range<usize>,
    copy: Handle,
}

static TWINS: Mutex<Vec<Twin>> = Mutex::new(Vec::new());

/// Those whose storage is still there; the memory of the others is free again.
fn living() -> MutexGuard<'static, Vec<Twin>> {
    let mut twins = TWINS.lock().unwrap_or_else(PoisonError::into_inner);
    twins.retain(|twin| twin.storage.strong_count() > 0);
    twins
}

/// Remembers that `copy` holds these bytes of the storage.
pub(super) fn remember(storage: &Arc<Bytes>, bytes: Range<usize>, copy: Handle) {
    living().push(Twin {
        storage: Arc::downgrade(storage),
        bytes,
        copy,
    });
}

/// What holds these bytes of the storage, and which of its bytes it holds.
pub(super) fn find(storage: &Arc<Bytes>, bytes: &Range<usize>) -> Option<(Range<usize>, Handle)> {
    let twins = living();
    let twin = twins.iter().find(|twin| {
        twin.storage.as_ptr() == Arc::as_ptr(storage) && contains(&twin.bytes, bytes)
    })?;
    Some((twin.bytes.clone(), twin.copy.clone()))
}
