//! What a thread of a block says when it meets others, in the layout that `shim.h` has.

/// Why threads meet. The numbers are those of `shim.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    Block,
    Warp,
    Shuffle,
    ShuffleXor,
    ShuffleUp,
    ShuffleDown,
    Any,
    All,
    Ballot,
    /// `mma.sync.aligned.m16n8k16.row.col` of these elements, summed in f32.
    Multiply(Half),
    /// `ldmatrix.sync.aligned.m8n8.b16`
    LoadMatrices {
        transposed: bool,
    },
    /// RDNA 3's `v_wmma_f32_16x16x16` of these elements.
    MultiplyRdna3(Half),
    /// RDNA 4's.
    MultiplyRdna4(Half),
}

/// The 16-bit element types of matrix instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    F16,
    BF16,
}

impl Half {
    pub fn to_f32(self, bits: u16) -> f32 {
        match self {
            Self::F16 => half::f16::from_bits(bits).to_f32(),
            Self::BF16 => half::bf16::from_bits(bits).to_f32(),
        }
    }
}

impl Meeting {
    const NUMBERS: [(u32, Self); 17] = [
        (0, Self::Block),
        (1, Self::Warp),
        (2, Self::Shuffle),
        (3, Self::ShuffleXor),
        (4, Self::ShuffleUp),
        (5, Self::ShuffleDown),
        (6, Self::Any),
        (7, Self::All),
        (8, Self::Ballot),
        (9, Self::Multiply(Half::F16)),
        (10, Self::Multiply(Half::BF16)),
        (11, Self::LoadMatrices { transposed: false }),
        (12, Self::LoadMatrices { transposed: true }),
        (13, Self::MultiplyRdna3(Half::F16)),
        (14, Self::MultiplyRdna3(Half::BF16)),
        (15, Self::MultiplyRdna4(Half::F16)),
        (16, Self::MultiplyRdna4(Half::BF16)),
    ];

    pub fn of(number: u32) -> Option<Self> {
        let found = Self::NUMBERS.iter().find(|(other, _)| *other == number);
        found.map(|(_, meeting)| *meeting)
    }

    pub fn number(self) -> u32 {
        let found = Self::NUMBERS.iter().find(|(_, other)| *other == self);
        found.map_or(u32::MAX, |(number, _)| *number)
    }

    /// As the program spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "__syncthreads",
            Self::Warp => "__syncwarp",
            Self::Shuffle => "__shfl_sync",
            Self::ShuffleXor => "__shfl_xor_sync",
            Self::ShuffleUp => "__shfl_up_sync",
            Self::ShuffleDown => "__shfl_down_sync",
            Self::Any => "__any_sync",
            Self::All => "__all_sync",
            Self::Ballot => "__ballot_sync",
            Self::Multiply(_) => "mma.sync",
            Self::LoadMatrices { .. } => "ldmatrix",
            Self::MultiplyRdna3(_) | Self::MultiplyRdna4(_) => "v_wmma",
        }
    }
}

/// `Request` of `shim.h`: it lies on the stack of the thread that waits.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub kind: u32,
    /// The line of the text.
    pub line: u32,
    /// The lane, mask or distance of a shuffle; the number of matrices.
    pub argument: u32,
    /// Registers that go in and come out.
    pub words: [u32; 32],
}

impl Request {
    pub fn meeting(&self) -> Option<Meeting> {
        Meeting::of(self.kind)
    }
}

/// `Thread` of `shim.h`: what a thread can ask where it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub thread: [u32; 3],
    pub block: [u32; 3],
    pub block_dim: [u32; 3],
    pub grid_dim: [u32; 3],
    pub shared: *mut u8,
}
