//! What became of every kernel on every target, as rows.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// How far a kernel got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// Lowered, and taken by the vendor's compiler or by the language's own validator.
    Compiled,
    /// Lowered; nothing here compiles or validates it, and why.
    Lowered(String),
    /// Not lowered, for something of a vendor's is missing here, and what.
    Untried(String),
    /// Not launched: the library's own refusal, which its caller is told.
    Refused(String),
    /// Not lowered, compiled or validated, and what was said.
    Failed(String),
}

/// What was counted in a kernel. What a target has no word for, or nothing could count, is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Bytes that the units of a cube share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_memory: Option<u64>,
    /// Storage buffers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffers: Option<u64>,
    /// Registers of a unit: of a lane, where there are vector and scalar ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registers: Option<u64>,
    /// Bytes of a unit that did not fit its registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spilled: Option<u64>,
    /// Instructions of the whole kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// Those that multiply matrices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<u64>,
    /// Barriers of a cube.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barriers: Option<u64>,
    /// The loop in which most of the work is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop: Option<HotLoop>,
}

/// What was counted in the loop that holds the most matrix instructions, or the most fused
/// multiplications where there are none: every instruction of it once, also those that most of its
/// turns skip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HotLoop {
    /// All.
    pub instructions: u64,
    /// Those that multiply matrices.
    pub matrix: u64,
    /// Fused multiplications and additions of lanes.
    pub fma: u64,
    /// Barriers of a cube.
    pub barriers: u64,
    /// Loads from shared memory.
    pub shared_loads: u64,
    /// Stores to shared memory.
    pub shared_stores: u64,
    /// Loads from buffers.
    pub global_loads: u64,
    /// Those of the special function unit.
    pub special: u64,
    /// Numbers that move between lanes.
    pub shuffles: u64,
    /// Registers that are kept in memory, written or read.
    pub spills: u64,
}

impl HotLoop {
    /// Matrix instructions among all, in per cent.
    pub fn matrix_share(&self) -> f64 {
        100.0 * self.matrix as f64 / self.instructions.max(1) as f64
    }
}

/// One kernel of one case on one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// [`Target::name`](crate::gpu::Target::name)
    pub target: String,
    /// [`Case::name`](crate::cases::Case::name)
    pub case: String,
    /// The kernel, and its number in the case where it is launched more than once.
    pub kernel: String,
    /// How far it got.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A tenth more is what another version of a compiler may need.
const TOLERANCE: u64 = 10;

/// What got worse from one run to the next, a sentence each: a kernel that no longer compiles, is
/// gone, spills more, waits at more barriers, shares more memory, or whose hot loop gives less of its
/// instructions to matrices.
pub fn regressions(before: &[Row], now: &[Row]) -> Vec<String> {
    let key = |row: &Row| (row.target.clone(), row.case.clone(), row.kernel.clone());
    let now: BTreeMap<_, _> = now.iter().map(|row| (key(row), row)).collect();
    let mut sentences = Vec::new();
    for old in before {
        let place = format!("{} {} {}", old.target, old.case, old.kernel);
        let Some(new) = now.get(&key(old)) else {
            sentences.push(format!("{place} is gone"));
            continue;
        };
        let worked = matches!(old.outcome, Outcome::Compiled | Outcome::Lowered(_));
        match &new.outcome {
            Outcome::Failed(reason) if worked => {
                sentences.push(format!("{place} fails: {reason}"));
            }
            Outcome::Refused(reason) if worked => {
                sentences.push(format!("{place} is refused: {reason}"));
            }
            _ => {}
        }
        for (what, before, now) in [
            ("spilled bytes", old.counts.spilled, new.counts.spilled),
            (
                "bytes of shared memory",
                old.counts.shared_memory,
                new.counts.shared_memory,
            ),
            ("storage buffers", old.counts.buffers, new.counts.buffers),
        ] {
            if let (Some(before), Some(now)) = (before, now)
                && now > before + before / TOLERANCE
            {
                sentences.push(format!("{place} has {now} {what}, it had {before}"));
            }
        }
        sentences.extend(slower(&old.counts, &new.counts).map(|what| format!("{place} {what}")));
    }
    sentences
}

/// What of a hot loop got worse; of the kernel, where no loop was found.
fn slower(old: &Counts, new: &Counts) -> impl Iterator<Item = String> {
    let waits = |counts: &Counts| match counts.hot_loop {
        Some(hot) => Some(hot.barriers),
        None => counts.barriers,
    };
    let (before, now) = (waits(old), waits(new));
    let waits = (now > before && before.is_some()).then(|| {
        let [before, now] = [before, now].map(Option::unwrap_or_default);
        format!("waits at {now} barriers in a turn of its loop, before at {before}")
    });
    let share = |counts: &Counts| counts.hot_loop.map(|hot| hot.matrix_share());
    let shares = share(old).zip(share(new));
    let least = 1.0 - 1.0 / TOLERANCE as f64;
    let shares = shares.filter(|(before, now)| *now < before * least);
    let shares = shares.map(|(before, now)| {
        format!("has {now:.1} % matrix instructions in its loop, it had {before:.1} %")
    });
    waits.into_iter().chain(shares)
}

/// Targets in the order of their first row, with their rows.
pub fn by_target(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let mut targets: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        match targets.iter_mut().find(|(name, _)| *name == row.target) {
            Some((_, rows)) => rows.push(row),
            None => targets.push((&row.target, vec![row])),
        }
    }
    targets
}

/// How many kernels of each target got how far, and the most that any of them needs.
pub fn summary(rows: &[Row]) -> String {
    let mut text = String::from(
        "| target | kernels | compiled | lowered only | untried | refused | failed | registers | spilled B | kernels that spill | shared B | buffers |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (target, rows) in by_target(rows) {
        let count = |of: fn(&Row) -> bool| rows.iter().filter(|row| of(row)).count();
        let most = |of: fn(&Counts) -> Option<u64>| {
            let most = rows.iter().filter_map(|row| of(&row.counts)).max();
            most.map_or("-".into(), |most| most.to_string())
        };
        let _ = writeln!(
            text,
            "| {target} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            rows.len(),
            count(|row| row.outcome == Outcome::Compiled),
            count(|row| matches!(row.outcome, Outcome::Lowered(_))),
            count(|row| matches!(row.outcome, Outcome::Untried(_))),
            count(|row| matches!(row.outcome, Outcome::Refused(_))),
            count(|row| matches!(row.outcome, Outcome::Failed(_))),
            most(|counts| counts.registers),
            most(|counts| counts.spilled),
            count(|row| row.counts.spilled.is_some_and(|bytes| bytes > 0)),
            most(|counts| counts.shared_memory),
            most(|counts| counts.buffers),
        );
    }
    text
}

/// What was counted in each kernel; those in which nothing was are left to the [`reasons`].
pub fn details(rows: &[Row]) -> String {
    let mut text = String::from(
        "| target | case | kernel | outcome | registers | spilled B | shared B | buffers | instructions | matrix | barriers \
         | in the loop | matrix | matrix % | barriers | shared loads | stores | buffer loads | special | shuffles | fma | spills |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let counted = |row: &&Row| row.counts.registers.is_some() || row.counts.buffers.is_some();
    for row in rows.iter().filter(counted) {
        let outcome = match &row.outcome {
            Outcome::Compiled => "compiled",
            Outcome::Lowered(_) => "lowered",
            Outcome::Untried(_) => "untried",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
        };
        let counts = &row.counts;
        let number = |count: Option<u64>| count.map_or("-".into(), |count| count.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {outcome} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.target,
            row.case,
            row.kernel,
            number(counts.registers),
            number(counts.spilled),
            number(counts.shared_memory),
            number(counts.buffers),
            number(counts.instructions),
            number(counts.matrix),
            number(counts.barriers),
            hot_loop(counts.hot_loop.as_ref()),
        );
    }
    text
}

/// The cells of a hot loop.
fn hot_loop(counts: Option<&HotLoop>) -> String {
    let Some(hot) = counts else {
        return ["-"; 11].join(" | ");
    };
    let share = format!("{:.1}", hot.matrix_share());
    let numbers = [
        hot.barriers,
        hot.shared_loads,
        hot.shared_stores,
        hot.global_loads,
        hot.special,
        hot.shuffles,
        hot.fma,
        hot.spills,
    ];
    let first = [hot.instructions, hot.matrix].map(|count| count.to_string());
    let cells = first.into_iter().chain([share]);
    let cells: Vec<_> = cells
        .chain(numbers.map(|count| count.to_string()))
        .collect();
    cells.join(" | ")
}

/// Why rows did not compile: every reason with the number of its kernels, by target.
pub fn reasons(rows: &[Row]) -> String {
    let mut reasons: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for row in rows {
        let (how, reason) = match &row.outcome {
            Outcome::Compiled => continue,
            Outcome::Lowered(reason) => ("lowered only", reason),
            Outcome::Untried(reason) => ("untried", reason),
            Outcome::Refused(reason) => ("refused", reason),
            Outcome::Failed(reason) => ("failed", reason),
        };
        *reasons.entry((&row.target, how, reason)).or_default() += 1;
    }
    let mut text = String::from("| target | | kernels | why |\n|---|---|---|---|\n");
    for ((target, how, reason), kernels) in reasons {
        let reason = reason.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(text, "| {target} | {how} | {kernels} | {reason} |");
    }
    text
}
