//! An emulated device as a CubeCL client sees it.

use std::{
    any::Any,
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
    kernel::CubeKernel,
    logging::ServerLogger,
    memory_management::{ManagedMemoryHandle, MemoryAllocationMode, StreamMemoryReport},
    server::{
        BufferBinding, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, Server,
        ServerCommunication, ServerError, ServerStorage, ServerUtilities,
    },
    storage::{BytesResource, BytesStorage, ManagedResource},
};

use super::{fault::Fault, machine::Machine, object::Objects, schedule::Schedule};
use crate::{gpu::Target, run::short_name};

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
            machine: Machine::new(target, objects),
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
    machine: Machine,
    /// The first that a launch met and nobody has heard of.
    fault: Option<(String, Fault)>,
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
        self.machine.allocate(memory, size as usize);
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
                let bytes = server.machine.slice(&descriptor.handle).map_err(error)?;
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
            let written = self.machine.slice(&descriptor.handle).and_then(|slice| {
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
        let name = short_name(kernel.name());
        let schedule = lock(&self.orders).schedule;
        let ran = self.machine.execute(&*kernel, count, &bindings, schedule);
        match ran {
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
