//! A device that is not there: it keeps the kernels that are launched on it.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use cubecl::{
    client::Client,
    ir::{DeviceProperties, TargetProperties},
    prelude::CubeCount,
};
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

type Kernels = Arc<Mutex<Vec<Box<dyn CubeKernel>>>>;

/// A client of such a device, and what was launched on it.
pub struct Capture {
    /// Allocations, writes and launches go nowhere.
    pub client: Client,
    kernels: Kernels,
}

impl Capture {
    /// A device of these properties.
    pub fn new(name: &'static str, properties: DeviceProperties, target: TargetProperties) -> Self {
        // A process knows a device by its index.
        static DEVICES: AtomicU16 = AtomicU16::new(0);
        let id = DeviceId::new(0, DEVICES.fetch_add(1, Ordering::Relaxed));
        let alignment = properties.memory.alignment as usize;
        let (utilities, _) = ServerUtilities::init(
            ServiceId::of::<CaptureServer>(id),
            name,
            properties,
            target,
            Arc::new(ServerLogger::default()),
            ContiguousMemoryLayoutPolicy::new(alignment),
        );
        let kernels = Kernels::default();
        let server = CaptureServer {
            utilities: Arc::new(utilities),
            kernels: kernels.clone(),
        };
        Self {
            client: Client::init(id, server),
            kernels,
        }
    }

    /// The kernels that were launched since the last call.
    ///
    /// # Errors
    /// What the client reports of its launches.
    pub fn take(&self) -> Result<Vec<Box<dyn CubeKernel>>, ServerError> {
        self.client.flush()?;
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut kernels))
    }
}

struct CaptureServer {
    utilities: Arc<ServerUtilities>,
    kernels: Kernels,
}

impl fmt::Debug for CaptureServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureServer")
    }
}

fn no_device() -> ServerError {
    ServerError::Generic {
        reason: "kernels are only kept: there is no device".into(),
        backtrace: BackTrace::capture(),
    }
}

impl DeviceService for CaptureServer {
    fn init(_: DeviceId) -> Self {
        unreachable!("it is made by `Client::init`")
    }

    fn utilities(&self) -> Arc<dyn Any + Send + Sync> {
        self.utilities.clone()
    }
}

impl ServerCommunication for CaptureServer {}

impl Server for CaptureServer {
    fn initialize_memory(
        &mut self,
        _: ManagedMemoryHandle,
        _: u64,
        _: StreamId,
    ) -> Result<(), ServerError> {
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
        _: Vec<CopyDescriptor>,
        _: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        Box::pin(async { Err(no_device()) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: Vec<BufferBinding>, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn check(&mut self, _: Vec<BufferBinding>, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    unsafe fn launch(
        &mut self,
        kernel: Box<dyn CubeKernel>,
        _: CubeCount,
        _: KernelArguments,
        _: StreamId,
        _: LaunchMode,
    ) {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        kernels.push(kernel);
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_report(&mut self, _: StreamId) -> Option<StreamMemoryReport> {
        None
    }

    fn memory_cleanup(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Err(no_device())
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

impl ServerStorage for CaptureServer {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _: BufferBinding,
        _: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(no_device())
    }
}
