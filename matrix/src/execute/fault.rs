//! What an emulated device finds wrong.

use thiserror::Error;

/// Why a launch did not run to its end.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum Fault {
    /// CubeCL's compiler refuses the kernel.
    #[error("CubeCL does not lower the kernel: {0}")]
    Lowering(String),
    /// A target that is not emulated.
    #[error("{0} is not emulated: targets in CUDA C++ or HIP C++ with warps of 32 are")]
    Target(&'static str),
    /// Inline assembly that the emulation has no meaning for.
    #[error("the emulation knows no instruction `{0}`")]
    Instruction(String),
    /// The lowered text is not laid out as the emulation expects.
    #[error("the emulation does not find {0} in the kernel's text")]
    Text(&'static str),
    /// There is no C++ compiler.
    #[error("no C++ compiler runs: `{program}`: {reason}; install g++, or name one in CXX")]
    NoCompiler {
        /// What was called.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// The C++ compiler refuses the kernel.
    #[error("`{program}` does not compile the kernel: {said}")]
    Compilation {
        /// What was called.
        program: String,
        /// Its first lines.
        said: String,
    },
    /// The compiled kernel cannot be written or loaded.
    #[error("the compiled kernel cannot be loaded: {0}")]
    Object(String),
    /// Fibers are switched on x86-64 and aarch64 under Unix.
    #[error("kernels are executed on x86-64 and aarch64 under Linux and macOS")]
    Host,
    /// Some threads of a block wait for others that never come.
    #[error("block {block:?} is stuck: {waiting}")]
    Deadlock {
        /// The block's index.
        block: [u32; 3],
        /// Who waits where.
        waiting: String,
    },
    /// The lanes of a warp meet at different places.
    #[error("block {block:?} diverges: {waiting}")]
    Divergent {
        /// The block's index.
        block: [u32; 3],
        /// Who waits where.
        waiting: String,
    },
    /// A matrix instruction without the whole warp, or with operands that break its rules.
    #[error("block {block:?}, {place}: {rule}")]
    Operand {
        /// The block's index.
        block: [u32; 3],
        /// Which instruction.
        place: String,
        /// What it requires.
        rule: &'static str,
    },
    /// Memory beside a buffer or beside shared memory was written.
    #[error("{memory} was written {distance} bytes {side}")]
    OutOfBounds {
        /// Which memory.
        memory: String,
        /// How far outside, at least.
        distance: usize,
        /// Before its beginning or after its end.
        side: &'static str,
    },
    /// A thread needs more stack than it has.
    #[error("a thread of the kernel needs more than the emulation's stack")]
    Stack,
    /// A buffer that the device did not allocate, or one of another layout.
    #[error("{0}")]
    Buffer(&'static str),
    /// The kernel takes more arguments than the launch gives.
    #[error("the kernel takes {taken} arguments and is given {given}")]
    Arguments {
        /// What the kernel's signature has.
        taken: usize,
        /// What the launch has.
        given: usize,
    },
}
