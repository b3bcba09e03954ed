//! An emulated device as a CubeCL client sees it.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use cubecl::{client::Client, prelude::CubeCount};
use cubecl_common::{
    bytes::Bytes,
    device::{DeviceId, DeviceService, ServiceId},
    profile::ProfileDuration,
};
use cubecl_environment::{backtrace::BackTrace, future::DynFut, stream::StreamId};
use cubecl_server::{
    allocator::ContiguousMemoryLayoutPolicy,
    dry_run::LaunchMode,
    id::KernelId,
    kernel::CubeKernel,
    logging::ServerLogger,
    memory_management::{
        ManagedMemoryHandle, ManagedMemoryId, MemoryAllocationMode, StreamMemoryReport,
        WeakMemoryBinding,
    },
    server::{
        BufferBinding, CopyDescriptor, KernelArguments, KernelResource, ProfileError,
        ProfilingToken, Server, ServerCommunication, ServerError, ServerStorage, ServerUtilities,
    },
    storage::{BytesResource, BytesStorage, ManagedResource},
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

/// A device whose kernels run on this machine's processor.
pub struct Device {
    /// Allocates, writes, launches and reads.
    pub client: Client,
    /// The target's name.
    pub target: &'static str,
    orders: Arc<Mutex<Orders>>,
}

/// What the client's side and the device's side share.
struct Orders {
    schedule: Schedule,
    /// Kernels that ran, by name.
    launched: Vec<String>,
    /// Why the last launch that failed did.
    fault: Option<Fault>,
}

impl Device {
    /// An emulation of this target, whose compiler has to write CUDA C++.
    pub fn new(target: Target, objects: Arc<Objects>) -> Self {
        // A process knows a device by its index.
        static DEVICES: AtomicU16 = AtomicU16::new(0);
        let id = DeviceId::new(1, DEVICES.fetch_add(1, Ordering::Relaxed));
        let (utilities, _) = ServerUtilities::init(
            ServiceId::of::<EmulatedServer>(id),
            target.name,
            target.properties.clone(),
            (target.matrix)(),
            Arc::new(ServerLogger::default()),
            // No room behind a buffer: whoever writes there is found.
            ContiguousMemoryLayoutPolicy::new(1),
        );
        let name = target.name;
        let orders = Arc::new(Mutex::new(Orders {
            schedule: Schedule::FirstFirst,
            launched: Vec::new(),
            fault: None,
        }));
        let server = EmulatedServer {
            utilities: Arc::new(utilities),
            orders: orders.clone(),
            target,
            objects,
            kernels: HashMap::new(),
            buffers: HashMap::new(),
            fibers: Vec::new(),
            fault: None,
        };
        Self {
            client: Client::init(id, server),
            target: name,
            orders,
        }
    }

    /// How what is launched from now on is run.
    ///
    /// # Errors
    /// What went wrong in launches before.
    pub fn follow(&self, schedule: Schedule) -> Result<(), ServerError> {
        self.client.flush()?;
        lock(&self.orders).schedule = schedule;
        Ok(())
    }

    /// Why the last launch that failed did, of those since the last call.
    pub fn take_fault(&self) -> Option<Fault> {
        lock(&self.orders).fault.take()
    }

    /// Names of the kernels that ran since the last call.
    pub fn take_launched(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.orders).launched)
    }
}

fn lock(orders: &Mutex<Orders>) -> std::sync::MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

struct EmulatedServer {
    utilities: Arc<ServerUtilities>,
    orders: Arc<Mutex<Orders>>,
    target: Target,
    objects: Arc<Objects>,
    kernels: HashMap<KernelId, (Arc<Object>, usize)>,
    buffers: HashMap<ManagedMemoryId, Buffer>,
    fibers: Vec<Fiber>,
    /// The first that a launch met and nobody has heard of.
    fault: Option<(String, Fault)>,
}

struct Buffer {
    memory: Guarded,
    /// Whether anybody can still name it.
    owner: WeakMemoryBinding,
}

// SAFETY: the stack pointers of fibers are used by the thread that runs the server, between whose
// calls no fiber is at work.
unsafe impl Send for EmulatedServer {}

impl fmt::Debug for EmulatedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmulatedServer")
    }
}

fn error(reason: impl fmt::Display) -> ServerError {
    ServerError::Generic {
        reason: reason.to_string(),
        backtrace: BackTrace::capture(),
    }
}

impl EmulatedServer {
    fn report(&mut self) -> Result<(), ServerError> {
        match self.fault.take() {
            Some((kernel, fault)) => Err(error(format!("{kernel}: {fault}"))),
            None => Ok(()),
        }
    }

    fn slice(&mut self, binding: &BufferBinding) -> Result<&mut [u8], Fault> {
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

    fn execute(
        &mut self,
        kernel: &dyn CubeKernel,
        count: CubeCount,
        bindings: &KernelArguments,
    ) -> Result<(), Fault> {
        // Whether sizes and scalars are an argument themselves, or a pointer to them.
        let constants = match &self.target.compiler {
            Compiler::CudaCpp(options) | Compiler::HipCpp(options) => {
                options.supports_features.grid_constants
            }
            _ => return Err(Fault::Target(self.target.name)),
        };
        if self.target.properties.hardware.plane_size_max as usize != LANES {
            return Err(Fault::Target(self.target.name));
        }
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
        unsafe { self.run(&launch, shared_memory) }?;
        for (number, binding) in bindings.buffers().enumerate() {
            if let Some(buffer) = self.buffers.get(&binding.memory.id()) {
                buffer.memory.check(|| format!("buffer {number}"))?;
            }
        }
        Ok(())
    }

    /// Every block of the grid.
    unsafe fn run(&mut self, launch: &Launch, shared_memory: usize) -> Result<(), Fault> {
        let threads = launch.block.iter().product::<u32>() as usize;
        while self.fibers.len() < threads {
            self.fibers.push(Fiber::new()?);
        }
        let mut order = Order::new(lock(&self.orders).schedule);
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

impl DeviceService for EmulatedServer {
    fn init(_: DeviceId) -> Self {
        unreachable!("it is made by `Client::init`")
    }

    fn utilities(&self) -> Arc<dyn Any + Send + Sync> {
        self.utilities.clone()
    }
}

impl ServerCommunication for EmulatedServer {}

impl Server for EmulatedServer {
    fn initialize_memory(
        &mut self,
        memory: ManagedMemoryHandle,
        size: u64,
        _: StreamId,
    ) -> Result<(), ServerError> {
        self.buffers.retain(|_, buffer| buffer.owner.is_alive());
        let binding = memory.binding();
        let buffer = Buffer {
            memory: Guarded::new(size as usize),
            owner: binding.downgrade(),
        };
        self.buffers.insert(binding.id(), buffer);
        Ok(())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities> {
        self.utilities.clone()
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let read = |server: &mut Self| {
            server.report()?;
            let mut results = Vec::new();
            for descriptor in descriptors {
                let bytes = server.slice(&descriptor.handle).map_err(error)?;
                let length = descriptor.shape.iter().product::<usize>() * descriptor.elem_size;
                let bytes = bytes.get(..length);
                let bytes = bytes.ok_or_else(|| error("a read leaves its buffer"))?;
                results.push(Bytes::from_bytes_vec(bytes.to_vec()));
            }
            Ok(results)
        };
        let result = read(self);
        Box::pin(async move { result })
    }

    fn write(&mut self, descriptors: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {
        for (descriptor, bytes) in descriptors {
            let written = self.slice(&descriptor.handle).and_then(|slice| {
                let slice = slice.get_mut(..bytes.len());
                let slice = slice.ok_or(Fault::Buffer("a write leaves its buffer"))?;
                slice.copy_from_slice(&bytes);
                Ok(())
            });
            if let Err(fault) = written {
                self.fault.get_or_insert(("a write".into(), fault));
            }
        }
    }

    fn sync(&mut self, _: Vec<BufferBinding>, _: StreamId) -> DynFut<Result<(), ServerError>> {
        let result = self.report();
        Box::pin(async move { result })
    }

    fn check(&mut self, _: Vec<BufferBinding>, _: StreamId) -> Result<(), ServerError> {
        self.report()
    }

    unsafe fn launch(
        &mut self,
        kernel: Box<dyn CubeKernel>,
        count: CubeCount,
        bindings: KernelArguments,
        _: StreamId,
        mode: LaunchMode,
    ) {
        if mode.is_skipped() || self.fault.is_some() {
            return;
        }
        let name = crate::run::short_name(kernel.name());
        match self.execute(&*kernel, count, &bindings) {
            Ok(()) => lock(&self.orders).launched.push(name),
            Err(fault) => {
                lock(&self.orders).fault = Some(fault.clone());
                self.fault = Some((name, fault));
            }
        }
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        self.report()
    }

    fn memory_report(&mut self, _: StreamId) -> Option<StreamMemoryReport> {
        None
    }

    fn memory_cleanup(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Err(error("an emulated device has no time"))
    }

    fn end_profile(
        &mut self,
        _: StreamId,
        _: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        unreachable!("no profile starts")
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}

impl ServerStorage for EmulatedServer {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _: BufferBinding,
        _: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(error("an emulated device lends none of its memory"))
    }
}
