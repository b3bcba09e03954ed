//! Kernels as shared objects of the host.

use std::{
    collections::HashMap,
    env, fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use libloading::Library;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    block::{self, Program},
    fault::Fault,
    request::{Place, Request},
    source::Source,
};

const SHIM: &str = include_str!("shim.h");

/// Contractions would differ between hosts; what a kernel never wrote is a number that stands out.
const FLAGS: [&str; 11] = [
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-shared",
    "-w",
    "-fno-strict-aliasing",
    "-fno-exceptions",
    "-fno-rtti",
    "-ffp-contract=off",
    "-ftrivial-auto-var-init=pattern",
    "-fno-math-errno",
];

/// `Host` of `shim.h`.
#[repr(C)]
struct Host {
    thread: extern "C" fn() -> *const Place,
    meet: extern "C" fn(*mut Request),
}

static HOST: Host = Host {
    thread: block::place,
    meet: block::meet,
};

/// A kernel that can be called.
pub(super) struct Object {
    /// The text whose lines faults name.
    pub text: String,
    pub program: Program,
    /// Arguments that the program reads.
    pub arguments: usize,
    _library: Library,
}

type Compiled = Arc<OnceLock<Result<Arc<Object>, Fault>>>;

/// The compiled kernels of a run, each compiled once.
pub struct Objects {
    /// The C++ compiler, and options of its own.
    compiler: String,
    folder: TempDir,
    compiled: Mutex<HashMap<[u8; 32], Compiled>>,
}

impl Objects {
    /// None yet; the compiler is `CXX`, or the system's.
    ///
    /// # Errors
    /// A temporary folder that cannot be made.
    pub fn new() -> Result<Self, Fault> {
        Self::with_compiler(env::var("CXX").unwrap_or_else(|_| "c++".into()))
    }

    /// None yet, with a compiler that takes the options of g++.
    ///
    /// # Errors
    /// A temporary folder that cannot be made.
    pub fn with_compiler(compiler: impl Into<String>) -> Result<Self, Fault> {
        Ok(Self {
            compiler: compiler.into(),
            folder: TempDir::new().map_err(|error| Fault::Object(error.to_string()))?,
            compiled: Mutex::default(),
        })
    }

    /// The kernel of this CUDA C++.
    pub(super) fn of(&self, cuda: &str) -> Result<Arc<Object>, Fault> {
        let hash: [u8; 32] = Sha256::digest(cuda).into();
        let slot = {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            compiled.entry(hash).or_default().clone()
        };
        slot.get_or_init(|| self.compile(cuda, &hash).map(Arc::new))
            .clone()
    }

    fn compile(&self, cuda: &str, hash: &[u8]) -> Result<Object, Fault> {
        let Source { text, kernel } = Source::new(cuda)?;
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = self.folder.path().join(format!("{name}.cpp"));
        let object = self.folder.path().join(format!("{name}.so"));
        let whole = format!(
            "{SHIM}\n#line 1 \"kernel.cu\"\n{text}\n\
             extern \"C\" void emulated_run(void *const *arguments) {{\n\
             emulated::call({kernel}, arguments);\n}}\n\
             extern \"C\" size_t emulated_prepare(const emulated::Host *host) {{\n\
             emulated::host = host;\nreturn emulated::count({kernel});\n}}\n"
        );
        fs::write(&file, whole).map_err(|error| Fault::Object(error.to_string()))?;
        compile(&self.compiler, &file, &object)?;
        load(&object, text)
    }
}

fn compile(compiler: &str, file: &Path, object: &Path) -> Result<(), Fault> {
    let program = compiler.to_owned();
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command
        .args(words)
        .args(FLAGS)
        .arg(file)
        .arg("-o")
        .arg(object);
    let output = command.output().map_err(|error| Fault::NoCompiler {
        program: program.clone(),
        reason: error.to_string(),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first: Vec<_> = said.lines().take(12).collect();
    Err(Fault::Compilation {
        program,
        said: first.join("\n"),
    })
}

fn load(object: &Path, text: String) -> Result<Object, Fault> {
    type Prepare = unsafe extern "C" fn(*const Host) -> usize;
    let failed = |error: libloading::Error| Fault::Object(error.to_string());
    // SAFETY: the object has no initializers, and both functions have these types.
    unsafe {
        let library = Library::new(object).map_err(failed)?;
        let program = *library.get::<Program>(b"emulated_run\0").map_err(failed)?;
        let prepare = *library
            .get::<Prepare>(b"emulated_prepare\0")
            .map_err(failed)?;
        let arguments = prepare(&raw const HOST);
        Ok(Object {
            text,
            program,
            arguments,
            _library: library,
        })
    }
}
