//! The memory of an emulated device, and launches on it.

use std::{collections::HashMap, sync::Arc};

use cubecl::prelude::CubeCount;
use cubecl_server::{
    id::KernelId,
    kernel::CubeKernel,
    memory_management::{ManagedMemoryHandle, ManagedMemoryId, WeakMemoryBinding},
    server::{BufferBinding, KernelArguments, KernelResource},
};

use super::{
    block::{self, Launch},
    fault::Fault,
    fiber::Fiber,
    guarded::Guarded,
    object::{Object, Objects},
    schedule::{Order, Schedule},
    warp::LANES,
};
use crate::{
    gpu::{Compiler, Target},
    lower::lower,
};

pub(super) struct Machine {
    target: Target,
    objects: Arc<Objects>,
    /// Each with its bytes of shared memory.
    kernels: HashMap<KernelId, (Arc<Object>, usize)>,
    buffers: HashMap<ManagedMemoryId, Buffer>,
    fibers: Vec<Fiber>,
}

struct Buffer {
    memory: Guarded,
    /// Whether anybody can still name it.
    owner: WeakMemoryBinding,
}

impl Machine {
    pub fn new(target: Target, objects: Arc<Objects>) -> Self {
        Self {
            target,
            objects,
            kernels: HashMap::new(),
            buffers: HashMap::new(),
            fibers: Vec::new(),
        }
    }

    /// Memory of its own for a handle; that of handles which are gone goes too.
    pub fn allocate(&mut self, handle: ManagedMemoryHandle, size: usize) {
        self.buffers.retain(|_, buffer| buffer.owner.is_alive());
        let binding = handle.binding();
        let buffer = Buffer {
            memory: Guarded::new(size),
            owner: binding.downgrade(),
        };
        self.buffers.insert(binding.id(), buffer);
    }

    /// The bytes of a binding.
    pub fn slice(&mut self, binding: &BufferBinding) -> Result<&mut [u8], Fault> {
        let range = binding.range();
        let buffer = self.buffers.get_mut(&binding.memory.id());
        let buffer = buffer.ok_or(Fault::Buffer("a buffer was never allocated"))?;
        let range = range.start as usize..range.end as usize;
        let slice = buffer.memory.as_mut_slice().get_mut(range);
        slice.ok_or(Fault::Buffer("a binding leaves its buffer"))
    }

    fn object(&mut self, kernel: &dyn CubeKernel) -> Result<(Arc<Object>, usize), Fault> {
        let id = kernel.id();
        if let Some(known) = self.kernels.get(&id) {
            return Ok(known.clone());
        }
        let lowered = lower(kernel, &self.target);
        let lowered = lowered.map_err(|error| Fault::Lowering(error.to_string()))?;
        let text = String::from_utf8_lossy(&lowered.code);
        let found = (self.objects.of(&text)?, lowered.shared_memory);
        self.kernels.insert(id, found.clone());
        Ok(found)
    }

    fn count(&mut self, count: CubeCount) -> Result<[u32; 3], Fault> {
        match count {
            CubeCount::Static(x, y, z) => Ok([x, y, z]),
            CubeCount::Dynamic(binding) => {
                let words = self.slice(&binding)?;
                let word = |at: usize| {
                    let bytes = words.get(4 * at..4 * at + 4)?;
                    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
                };
                let words = [word(0), word(1), word(2)];
                let [Some(x), Some(y), Some(z)] = words else {
                    return Err(Fault::Buffer("a grid's size has three words"));
                };
                Ok([x, y, z])
            }
        }
    }

    /// Whether sizes and scalars are an argument themselves, rather than a pointer to them.
    fn takes_constants(&self) -> Result<bool, Fault> {
        let lockstep = self.target.properties.hardware.plane_size_max as usize;
        match &self.target.compiler {
            Compiler::CudaCpp(options) | Compiler::HipCpp(options) if lockstep == LANES => {
                Ok(options.supports_features.grid_constants)
            }
            _ => Err(Fault::Target(self.target.name)),
        }
    }

    /// Runs a kernel in a schedule.
    pub fn execute(
        &mut self,
        kernel: &dyn CubeKernel,
        count: CubeCount,
        bindings: &KernelArguments,
        schedule: Schedule,
    ) -> Result<(), Fault> {
        let constants = self.takes_constants()?;
        let (object, shared_memory) = self.object(kernel)?;
        let grid = self.count(count)?;
        let dim = kernel.id().cube_dim;
        let block = [dim.x, dim.y, dim.z];
        let mut pointers = Vec::new();
        for resource in &bindings.resources {
            let KernelResource::Buffer(binding) = resource else {
                return Err(Fault::Buffer("tensor maps are not emulated"));
            };
            pointers.push(self.slice(binding)?.as_mut_ptr().cast::<()>());
        }
        let info = &bindings.info;
        let whole = info.data.as_ptr() as *mut ();
        if !constants {
            pointers.push(whole);
        } else if let Some(dynamic) = info.data.get(info.dynamic_metadata_offset..)
            && !dynamic.is_empty()
        {
            pointers.push(dynamic.as_ptr() as *mut ());
        }
        let mut arguments: Vec<*mut ()> = pointers
            .iter_mut()
            .map(|pointer| (&raw mut *pointer).cast())
            .collect();
        if constants {
            arguments.push(whole);
        }
        if object.arguments > arguments.len() {
            return Err(Fault::Arguments {
                taken: object.arguments,
                given: arguments.len(),
            });
        }
        let launch = Launch {
            program: object.program,
            arguments: &arguments,
            grid,
            block,
            text: &object.text,
        };
        // SAFETY: the arguments are those of the kernel's launch, in the order of its signature.
        unsafe { self.run(&launch, shared_memory, Order::new(schedule)) }?;
        for (number, binding) in bindings.buffers().enumerate() {
            if let Some(buffer) = self.buffers.get(&binding.memory.id()) {
                buffer.memory.check(|| format!("buffer {number}"))?;
            }
        }
        Ok(())
    }

    /// Every block of the grid.
    unsafe fn run(
        &mut self,
        launch: &Launch,
        shared_memory: usize,
        mut order: Order,
    ) -> Result<(), Fault> {
        let threads = launch.block.iter().product::<u32>() as usize;
        while self.fibers.len() < threads {
            self.fibers.push(Fiber::new()?);
        }
        let mut shared = Guarded::new(shared_memory);
        let [width, height, depth] = launch.grid;
        let places = (0..depth)
            .flat_map(|z| (0..height).flat_map(move |y| (0..width).map(move |x| [x, y, z])));
        let mut places: Vec<[u32; 3]> = places.collect();
        order.arrange(&mut places);
        for place in places {
            let fibers = &mut self.fibers[..threads];
            // SAFETY: by the caller.
            unsafe { block::run(launch, place, &mut order, fibers, &mut shared) }?;
        }
        Ok(())
    }
}
