//! WGSL through naga, the validator of wgpu.

use std::error::Error;

use naga::{
    AddressSpace,
    valid::{Capabilities, ValidationFlags, Validator},
};

use super::Verdict;
use crate::{gpu::Target, lower::Lowered, table::Counts};

/// Validates a shader with what the device offers, and holds it to WebGPU's limits.
pub fn validate(lowered: &Lowered, target: &Target, counts: &mut Counts) -> Verdict {
    let text = String::from_utf8_lossy(&lowered.code);
    let module = naga::front::wgsl::parse_str(&text).map_err(|error| error.to_string())?;
    let mut capabilities = Capabilities::empty();
    if target.name.contains("subgroups") {
        capabilities |= Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER;
    }
    if target.name.contains("f16") {
        capabilities |= Capabilities::SHADER_FLOAT16;
    }
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|error| causes(error.as_inner()))?;

    let globals = || module.global_variables.iter().map(|(_, global)| global);
    let storage = |space| matches!(space, AddressSpace::Storage { .. } | AddressSpace::Uniform);
    let buffers = globals().filter(|global| storage(global.space)).count() as u64;
    let shared: u32 = globals()
        .filter(|global| global.space == AddressSpace::WorkGroup)
        .map(|global| module.types[global.ty].inner.size(module.to_ctx()))
        .sum();
    counts.buffers = Some(buffers);
    counts.shared_memory = Some(shared.into());
    counts.barriers = Some(text.matches("workgroupBarrier()").count() as u64);
    if buffers > u64::from(target.bindings) {
        return Err(format!(
            "{buffers} buffers, WebGPU has {} without asking for more",
            target.bindings
        ));
    }
    let available = target.properties.hardware.max_shared_memory_size;
    if shared as usize > available {
        return Err(format!(
            "{shared} bytes of workgroup memory, WebGPU has {available}"
        ));
    }
    Ok(None)
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
