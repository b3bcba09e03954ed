//! Which tile engine multiplies.

use std::{fmt, str::FromStr};

use attention_core::{AttentionError, AttentionProblem};
use cubecl::{client::Client, ir::ElemType};

use super::{
    cmma::{FragmentPlan, fragment_plan},
    mma::{MatrixWalk, matrix_plan},
    plan::{Plan, is_software},
    setup::Setup,
};

/// How rows and tokens are multiplied. Attention maps, and the gradients of biases and tables, always
/// run on [`Register`](Self::Register).
///
/// ```
/// use attention_kernels::softmax::Engine;
///
/// assert_eq!("cmma".parse::<Engine>()?, Engine::Cmma);
/// assert_eq!(
///     "tensor".parse::<Engine>().unwrap_err().to_string(),
///     "`engine` is tensor; accepted: auto, register, cmma, mma",
/// );
/// # Ok::<(), attention_core::AttentionError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The one that suits the device and the element type.
    #[default]
    Auto,
    /// Arithmetic in registers: every device has it.
    Register,
    /// Cooperative matrices, whose fragments only the device can read.
    Cmma,
    /// Matrix instructions whose register layout is known.
    Mma,
}

impl Engine {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Register, Self::Cmma, Self::Mma];

    /// As it is spelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Register => "register",
            Self::Cmma => "cmma",
            Self::Mma => "mma",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Engine {
    type Err = AttentionError;

    fn from_str(name: &str) -> Result<Self, AttentionError> {
        let found = Self::ALL.into_iter().find(|engine| engine.name() == name);
        found.ok_or_else(|| AttentionError::Value {
            argument: "engine",
            given: name.into(),
            accepted: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// The engines that a device has for tensors of an element type, with 64 dimensions.
pub fn engines(client: &Client, elem: ElemType) -> Vec<Engine> {
    const USUAL: AttentionProblem = AttentionProblem {
        batch: 1,
        heads: 1,
        kv_heads: 1,
        value_heads: 1,
        seq_q: 64,
        seq_kv: 64,
        head_dim: 64,
        value_dim: 64,
    };
    let properties = client.properties();
    let forward = MatrixWalk::Forward;
    let fragments = fragment_plan(properties, forward, &USUAL, elem).map(|_| Engine::Cmma);
    let matrix = matrix_plan(properties, forward, &USUAL, elem, false).map(|_| Engine::Mma);
    [Some(Engine::Register), fragments, matrix]
        .into_iter()
        .flatten()
        .collect()
}

/// The engine of one walk, with its plan.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chosen {
    Register,
    Fragments(FragmentPlan),
    Matrix(Plan),
}

impl Setup<'_> {
    /// The engine that was asked for, or the one that suits the device.
    pub fn choose(&self, walk: MatrixWalk) -> Result<Chosen, AttentionError> {
        let properties = self.client.properties();
        let matrix = || {
            matrix_plan(properties, walk, &self.problem, self.elem, self.mapped).map(Chosen::Matrix)
        };
        let fragments =
            || fragment_plan(properties, walk, &self.problem, self.elem).map(Chosen::Fragments);
        let chosen = match self.engine {
            Engine::Register => Some(Chosen::Register),
            Engine::Cmma => fragments(),
            Engine::Mma => matrix(),
            // A software rasterizer only imitates cooperative matrices.
            Engine::Auto if is_software(properties) => {
                Some(Chosen::Register)
            }
            Engine::Auto => matrix().or_else(fragments).or(Some(Chosen::Register)),
        };
        chosen.ok_or_else(|| AttentionError::Value {
            argument: "engine",
            given: self.engine.to_string(),
            accepted: format!(
                "auto or register: for {} in {} dimensions, this device has no matrices of its kind \
                 or too little shared memory",
                self.elem,
                self.problem.head_dim.max(self.problem.value_dim),
            ),
        })
    }
}
