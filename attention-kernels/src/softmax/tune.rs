//! The fastest of a walk's candidates, measured by CubeCL's tuner once per device and kind of problem.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use cubecl::{
    client::Client,
    tune::{AutotuneKey, LocalTuner, Tunable, TunableSet, TuneGroup, TuneInputs},
};
use serde::{Deserialize, Serialize};

/// Candidates of a walk at most: each has to be compiled and run.
pub(crate) const MOST_CANDIDATES: usize = 8;

/// Changes with the meaning of a candidate's number, so that what earlier versions kept on disk is not
/// taken for a choice of this one.
static TUNER: LocalTuner<TuneKey, String> = LocalTuner::new("attention-softmax-1");

/// Held while candidates are measured: to a call that comes meanwhile, CubeCL gives the first of them, whose
/// last bits may be others than those of the choice.
static MEASURING: Mutex<()> = Mutex::new(());

/// What a choice is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct TuneKey {
    kind: String,
    candidates: usize,
}

impl TuneKey {
    pub fn new(kind: String, candidates: usize) -> Self {
        Self { kind, candidates }
    }
}

impl fmt::Display for TuneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} candidates", self.kind, self.candidates)
    }
}

impl AutotuneKey for TuneKey {}

/// A call, whose candidates are known by their numbers.
#[derive(Clone)]
struct Trial<'a> {
    key: &'a TuneKey,
    launch: &'a (dyn Fn(usize) + Sync),
}

struct Trials;

impl TuneInputs for Trials {
    type At<'a> = Trial<'a>;
}

/// Launches the fastest of the key's candidates; measures all of them where none is known. Each has to
/// leave the same results.
pub(crate) fn launch_fastest(client: &Client, key: &TuneKey, launch: &(dyn Fn(usize) + Sync)) {
    let identity = &client.properties().identity;
    let device = format!("{} {}", identity.name, identity.fingerprint);
    let set = TUNER.init(&device, candidates);
    let settled = TUNER.fastest_identity(&device, &set, key).is_some();
    let _measuring = (!settled).then(|| MEASURING.lock().unwrap_or_else(PoisonError::into_inner));
    TUNER.execute(&device, client, set, Trial { key, launch });
}

fn candidates() -> TunableSet<TuneKey, Trials, ()> {
    let group = TuneGroup::new("candidates", |_: &TuneKey| 0);
    let key = |trial: &Trial<'_>| trial.key.clone();
    let set = TunableSet::<TuneKey, Trials, ()>::new_cloning_inputs(key);
    (0..MOST_CANDIDATES).fold(set, |set, index| {
        let run = move |trial: Trial<'_>| {
            (trial.launch)(index);
            Ok::<(), String>(())
        };
        let candidate = Tunable::new(&format!("candidate {index}"), run);
        // A negative priority leaves a candidate out.
        let exists = move |key: &TuneKey| if index < key.candidates { 0 } else { -1 };
        set.with(candidate.group(&group, exists))
    })
}
