//! What was checked, and how it went.

use std::{fmt, process::ExitCode};

use anyhow::Result;

use crate::cli::{table::Table, verify_models::Row};

/// The outcome of every check, in order.
#[derive(Debug, Default)]
pub struct Report {
    entries: Vec<(String, Outcome)>,
}

#[derive(Debug)]
enum Outcome {
    Checked(Row),
    Failed(String),
    Skipped(String),
}

impl Report {
    /// Adds the compared outputs of a check, or why it could not run, which is a failure.
    pub fn add(&mut self, name: &str, rows: Result<Vec<Row>>) {
        match rows {
            Ok(rows) => {
                let checked = rows
                    .into_iter()
                    .map(|row| (name.into(), Outcome::Checked(row)));
                self.entries.extend(checked);
            }
            Err(error) => {
                let outcome = Outcome::Failed(format!("{error:#}"));
                self.entries.push((name.into(), outcome));
            }
        }
    }

    /// Adds what was not checked.
    pub fn skip(&mut self, name: &str, reason: String) {
        self.entries.push((name.into(), Outcome::Skipped(reason)));
    }

    /// How many outputs passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Checked(row) if row.passes()))
    }

    /// How many outputs are out of bounds, and checks that could not run.
    pub fn failed(&self) -> usize {
        self.entries.len() - self.passed() - self.skipped()
    }

    /// How many checks were left out.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    /// 1 when anything failed or nothing was checked.
    pub fn exit_code(&self) -> ExitCode {
        if self.failed() == 0 && self.passed() > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        let outcomes = self.entries.iter().map(|(_, outcome)| outcome);
        outcomes.filter(|outcome| wanted(outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["check", "output", "dtype", "worst error", "bound", "result"]);
        for (name, outcome) in &self.entries {
            let dash = String::new;
            table.push(match outcome {
                Outcome::Checked(row) => [
                    name.clone(),
                    row.name.clone(),
                    row.dtype.to_string(),
                    format!("{:.1e}", row.worst_error),
                    format!("{:.1e}", row.bound),
                    if row.passes() { "pass" } else { "FAIL" }.into(),
                ],
                Outcome::Failed(error) => [
                    name.clone(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    format!("FAIL: {error}"),
                ],
                Outcome::Skipped(reason) => [
                    name.clone(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    format!("skipped: {reason}"),
                ],
            });
        }
        let (passed, failed, skipped) = (self.passed(), self.failed(), self.skipped());
        writeln!(
            f,
            "{table}\n{passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}
