//! Which tile engine multiplies.

use std::{fmt, str::FromStr};

use attention_core::{AttentionError, AttentionProblem};
use cubecl::{
    client::Client,
    ir::{DeviceProperties, ElemType},
};

use super::{
    bind::F32,
    cmma::{FragmentPlan, fragment_plan},
    mma::{self, MatrixWalk, matrix_plan},
    plan::{Plan, Walk, is_software},
    setup::Setup,
    tensors::Inputs,
    tune::{self, TuneKey},
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
///     "`engine` is tensor; accepted: auto, register, cmma, mma, tuned",
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
    /// Matrix instructions whose register layout is known. On NVIDIA's cards elements of f32 run on it as well, each
    /// as the sum of three of bf16, whose products are summed: six instructions in place of one, and f32's accuracy.
    /// Infinite inputs, which no sum of that kind can hold, give NaN there.
    Mma,
    /// The fastest of the engines and tiles that the device has: measured by the first call of a kind of
    /// problem, which takes as long as compiling and running them all, and kept for the calls after it.
    /// With the feature `persistence`, also for those of later processes; without it, another process may
    /// choose otherwise and differ in the last bits.
    Tuned,
}

impl Engine {
    /// Every choice.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Register,
        Self::Cmma,
        Self::Mma,
        Self::Tuned,
    ];

    /// As it is spelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Register => "register",
            Self::Cmma => "cmma",
            Self::Mma => "mma",
            Self::Tuned => "tuned",
        }
    }
}

impl Engine {
    /// Refuses an engine that was asked for by name and that a device does not have for tensors of this
    /// type and shape, `mapped` with a block map, forward and where `backward` follows.
    ///
    /// # Errors
    /// [`AttentionError::Value`] that names the engine and those which every device has.
    pub fn check(
        self,
        properties: &DeviceProperties,
        problem: &AttentionProblem,
        elem: ElemType,
        mapped: bool,
        backward: bool,
    ) -> Result<(), AttentionError> {
        let walks = [MatrixWalk::Forward, MatrixWalk::Query, MatrixWalk::Key];
        let walks = if backward { &walks[..] } else { &walks[..1] };
        walks.iter().try_for_each(|&walk| {
            let named = self.named(properties, walk, problem, elem, mapped);
            named.map(|_| ())
        })
    }

    /// The engine that was asked for by name, if it is one that not every device has.
    fn named(
        self,
        properties: &DeviceProperties,
        walk: MatrixWalk,
        problem: &AttentionProblem,
        elem: ElemType,
        mapped: bool,
    ) -> Result<Option<Chosen>, AttentionError> {
        let found = match self {
            Self::Auto | Self::Register | Self::Tuned => return Ok(None),
            Self::Cmma => fragment_plan(properties, walk, problem, elem).map(Chosen::Fragments),
            Self::Mma => matrix_plan(properties, walk, problem, elem, mapped).map(Chosen::Matrix),
        };
        found.map(Some).ok_or_else(|| AttentionError::Value {
            argument: "engine",
            given: self.to_string(),
            accepted: format!(
                "auto, register or tuned: for {elem} in {} dimensions, this device has no matrices of its \
                 kind or too little shared memory, or f32 is summed over too many tokens",
                problem.head_dim.max(problem.value_dim),
            ),
        })
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chosen {
    Register(Plan),
    Fragments(FragmentPlan),
    Matrix(Plan),
}

impl Setup<'_> {
    /// The engine that was asked for, or the one that suits the device.
    pub fn choose(&self, walk: MatrixWalk) -> Result<Chosen, AttentionError> {
        let properties = self.client.properties();
        let named = self
            .engine
            .named(properties, walk, &self.problem, self.elem, self.mapped)?;
        Ok(named.unwrap_or_else(|| self.suited(walk)))
    }

    fn suited(&self, walk: MatrixWalk) -> Chosen {
        // Less than a tile of rows waits for its keys: terms of f32 would be more of them to read, and
        // fragments do not share them among cubes.
        let few = walk == MatrixWalk::Forward && self.problem.seq_q < mma::ROWS;
        let matrices = if self.engine == Engine::Register {
            None
        } else if few {
            self.matrix(walk).filter(|_| self.elem != F32)
        } else if is_software(self.client.properties()) {
            // A software rasterizer only imitates cooperative matrices.
            self.matrix(walk)
        } else {
            self.matrix(walk).or_else(|| self.fragments(walk))
        };
        matrices.unwrap_or_else(|| Chosen::Register(self.register_plan(walk)))
    }

    /// Launches a walk as it was chosen, or by the fastest candidate: `launch` may be called more often
    /// than once.
    pub fn launch_walk(
        &self,
        walk: MatrixWalk,
        inputs: &Inputs,
        chosen: &Chosen,
        launch: &(dyn Fn(&Chosen) + Sync),
    ) {
        if self.engine == Engine::Tuned {
            let candidates = self.candidates(walk, *chosen);
            let key = TuneKey::new(self.kind(walk, inputs), candidates.len());
            tune::launch_fastest(self.client, &key, &|index| launch(&candidates[index]));
        } else {
            launch(chosen);
        }
    }

    /// What could be faster than `chosen`, after it.
    fn candidates(&self, walk: MatrixWalk, chosen: Chosen) -> Vec<Chosen> {
        let mut candidates = vec![chosen];
        let plan = self.register_plan(walk);
        let registers = plan.variants(self.client.properties(), self.mapped);
        let others = [self.matrix(walk), self.fragments(walk)]
            .into_iter()
            .flatten();
        let registers = [plan].into_iter().chain(registers).map(Chosen::Register);
        for other in others.chain(registers) {
            if !candidates.contains(&other) {
                candidates.push(other);
            }
        }
        candidates.truncate(tune::MOST_CANDIDATES);
        candidates
    }

    fn matrix(&self, walk: MatrixWalk) -> Option<Chosen> {
        let properties = self.client.properties();
        matrix_plan(properties, walk, &self.problem, self.elem, self.mapped).map(Chosen::Matrix)
    }

    fn fragments(&self, walk: MatrixWalk) -> Option<Chosen> {
        let properties = self.client.properties();
        fragment_plan(properties, walk, &self.problem, self.elem).map(Chosen::Fragments)
    }

    fn register_plan(&self, walk: MatrixWalk) -> Plan {
        let AttentionProblem { seq_q, seq_kv, .. } = self.problem;
        let properties = self.client.properties();
        // Alike in the backward, so that both walks round a score to the same bits.
        let fewest = seq_q.min(seq_kv);
        match walk {
            MatrixWalk::Forward => {
                let plan = self.plan(Walk::Forward);
                let plan = plan.for_rows(seq_q, self.mapped).unless_few(seq_q);
                plan.sharing_rows(properties, &self.problem, self.mapped)
            }
            MatrixWalk::Query => {
                let plan = self.plan(Walk::Query).unless_few(fewest);
                plan.for_lanes_of(properties, seq_q)
            }
            MatrixWalk::Key => {
                let plan = self.plan(Walk::Backward).unless_few(fewest);
                plan.for_lanes_of(properties, seq_kv)
            }
        }
    }

    /// Problems of one kind are taken to be fastest by the same choice: lengths to the next power of 2.
    fn kind(&self, walk: MatrixWalk, inputs: &Inputs) -> String {
        let AttentionProblem {
            batch,
            heads,
            kv_heads,
            value_heads,
            seq_q,
            seq_kv,
            head_dim,
            value_dim,
        } = self.problem;
        let [rows, queries, keys] = [batch * heads, seq_q, seq_kv].map(usize::next_power_of_two);
        let code = &inputs.modification.code;
        let options = [
            ("causal", self.causal()),
            ("softcap", self.softcap()),
            ("mask", inputs.mask.is_some()),
            ("bias", inputs.bias.is_some()),
            ("score modification", code.modifies()),
            ("mask as code", code.masks()),
            ("factors", code.reweighs()),
            ("block map", self.mapped),
        ];
        let options = options.into_iter().filter(|(_, given)| *given);
        let options: Vec<_> = options.map(|(name, _)| name).collect();
        format!(
            "{walk:?} {} {head_dim}/{value_dim}, {rows} x {queries} queries, {keys} keys, heads \
             {heads}/{kv_heads}/{value_heads}, {options:?}",
            self.elem
        )
    }
}
