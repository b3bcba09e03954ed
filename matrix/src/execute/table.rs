//! What was checked, as a table.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{check::Checked, problem::PASSES};

/// A row for each problem, with the worst of its schedules in every pass.
pub fn table(checked: &[Checked]) -> String {
    let mut text = String::from("| target | case | engine | ");
    text.push_str(&PASSES.join(" | "));
    text.push_str(" | schedules | |\n|---|---|---|---|---|---|---|---|---|---|\n");
    let same = |a: &Checked, b: &Checked| (a.target, &a.problem) == (b.target, &b.problem);
    for of_problem in checked.chunk_by(same) {
        let first = &of_problem[0];
        let (target, problem) = (first.target, &first.problem);
        let _ = write!(text, "| {target} | {problem} | {} |", engine(first));
        for pass in PASSES {
            let of_pass = of_problem.iter().filter_map(|checked| {
                let compared = checked.outcome.as_ref().ok()?;
                compared.iter().find(|compared| compared.pass == pass)
            });
            let worst = of_pass.max_by(|a, b| a.error.total_cmp(&b.error));
            let _ = match worst {
                Some(worst) => write!(text, " {:.1e} of {:.1e} |", worst.error, worst.bound),
                None => write!(text, " |"),
            };
        }
        let failed = of_problem.iter().filter(|checked| !checked.passes());
        let failed: Vec<String> = failed.map(failure).collect();
        let all = of_problem.len();
        let verdict = if failed.is_empty() { "ok" } else { "failed" };
        let _ = writeln!(text, " {} of {all} | {verdict} |", all - failed.len());
        for failure in failed {
            let _ = writeln!(
                text,
                "| | | | | | | | | | {} |",
                failure.replace('|', "\\|").replace('\n', " ")
            );
        }
    }
    text
}

/// The first word of the names of the kernels that ran: `matrix`, or `attention` for the register
/// engine.
fn engine(checked: &Checked) -> String {
    let compared = checked.outcome.iter().flatten();
    let names = compared.filter_map(|compared| compared.kernel.as_deref()?.split('_').next());
    let engines: BTreeSet<&str> = names.collect();
    engines.into_iter().collect::<Vec<_>>().join(", ")
}

/// Why a problem failed in a schedule.
fn failure(checked: &Checked) -> String {
    let why = match &checked.outcome {
        Err(reason) => reason.clone(),
        Ok(compared) => {
            let failed = compared.iter().filter(|compared| !compared.passes());
            let words = failed.map(|compared| {
                if compared.error <= compared.bound {
                    format!("{} depends on the schedule", compared.pass)
                } else {
                    format!("{} is wrong by {:.1e}", compared.pass, compared.error)
                }
            });
            words.collect::<Vec<_>>().join(", ")
        }
    };
    format!("{}: {why}", checked.schedule)
}
