//! A folder of cases: what is in it, and the table of results.

use std::fmt;
use std::path::{Path, PathBuf};

use super::case::{Case, Outcome};
use super::{attention, encoder, hf, mae, pinv};

#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(String, &'static str, Outcome)>,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Report {
    pub(crate) fn passed(&self) -> bool {
        self.problems.is_empty()
            && !self.lines.is_empty()
            && self.lines.iter().all(|(_, _, outcome)| outcome.failures.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<40} {:<10} {:>7}  worst error / tolerance", "case", "kind", "tensors")?;
        for (name, kind, outcome) in &self.lines {
            let (ratio, worst) = &outcome.worst;
            let verdict = if outcome.failures.is_empty() { "ok" } else { "FAILED" };
            writeln!(f, "{name:<40} {kind:<10} {:>7}  {ratio:.3} ({worst}) {verdict}", outcome.checked)?;
            for failure in &outcome.failures {
                writeln!(f, "    {failure}")?;
            }
        }
        for line in self.notes.iter().chain(&self.problems) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Runs every case in a folder.
pub(crate) fn run(dir: &Path) -> Report {
    let mut report = Report::default();
    let mut entries: Vec<PathBuf> = match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(error) => {
            report.problems.push(format!("{}: {error}", dir.display()));
            return report;
        }
    };
    entries.sort();
    for path in entries {
        run_entry(&path, &mut report);
    }
    if report.lines.is_empty() {
        report.problems.push(format!("{}: no case in this folder", dir.display()));
    }
    report
}

fn run_entry(path: &Path, report: &mut Report) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
    if path.is_dir() {
        if path.join("config.json").exists() && path.join("io.safetensors").exists() {
            report.lines.push((name, "hf", guarded(|| hf::run(path))));
        } else {
            report
                .problems
                .push(format!("{name}: a folder without config.json and io.safetensors is no case"));
        }
    } else if extension == "safetensors" {
        match Case::read(path) {
            Ok(case) => match kind(&case) {
                Some((kind, run)) => report.lines.push((name, kind, guarded(|| run(case)))),
                None => report.problems.push(format!("{name}: its tensors are of no known kind of case")),
            },
            Err(error) => report.problems.push(format!("{name}: {error}")),
        }
    } else if extension == "md" {
        report.notes.push(format!("{name}: a text, not a case"));
    } else {
        report.problems.push(format!("{name}: neither a case nor a text (.md)"));
    }
}

/// A case that panics fails; the others still run.
fn guarded(run: impl FnOnce() -> Outcome) -> Outcome {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome { checked: 0, worst: (f64::NAN, String::new()), failures: vec![text.unwrap_or_default()] }
    })
}

type Run = fn(Case) -> Outcome;

/// What a case is, told by its tensors.
fn kind(case: &Case) -> Option<(&'static str, Run)> {
    if case.has("image") && case.has("ids_keep") {
        Some(("mae", mae::run))
    } else if case.has("image") && case.has("patch_embed.weight") {
        Some(("encoder", encoder::run))
    } else if case.has("x") && case.has("qkv.weight") {
        Some(("attention", attention::run))
    } else if case.has("a") && !case.names("z").is_empty() {
        Some(("pinv", pinv::run))
    } else {
        None
    }
}
