//! Checks of everything in a manifest that does not need the tensors.

use super::{Kind, Manifest, OutputKind, Task, Trees};
use crate::head::error::LoadError;
use crate::head::limits;

impl Manifest {
    /// Checks every field that does not need the tensors.
    ///
    /// # Errors
    /// [`LoadError::Field`] naming the head, the field, its value and what it should be.
    pub fn validate(&self) -> Result<(), LoadError> {
        self.validate_strings()?;
        self.validate_input()?;
        self.validate_output()?;
        let tolerance = self.self_test.tolerance;
        self.check(
            tolerance.is_finite() && tolerance > 0.0,
            "self_test.tolerance",
            tolerance,
            "a positive number",
        )
    }

    fn check(
        &self,
        ok: bool,
        field: &'static str,
        got: impl ToString,
        want: impl Into<String>,
    ) -> Result<(), LoadError> {
        if ok {
            return Ok(());
        }
        let mut got = got.to_string();
        if got.chars().count() > 80 {
            got = got.chars().take(80).chain("…".chars()).collect();
        }
        let head: String = self.name.chars().take(limits::MAX_NAME_CHARS).collect();
        Err(LoadError::Field { head, field, got, want: want.into() })
    }

    fn validate_strings(&self) -> Result<(), LoadError> {
        let name_ok = !self.name.is_empty()
            && self.name.chars().count() <= limits::MAX_NAME_CHARS
            && self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        self.check(name_ok, "name", &self.name, "1 to 64 letters, digits, '-', '_' or '.'")?;
        let printable =
            |text: &str, max: usize| text.chars().count() <= max && !text.chars().any(char::is_control);
        self.check(printable(&self.output.unit, 32), "output.unit", &self.output.unit, "≤ 32 characters")?;
        self.check(printable(&self.uplink, 128), "uplink", &self.uplink, "≤ 128 characters")?;
        if let Some(score) = &self.held_out {
            self.check(printable(&score.metric, 32), "held_out.metric", &score.metric, "≤ 32 characters")?;
            self.check(printable(&score.method, 512), "held_out.method", &score.method, "≤ 512 characters")?;
        }
        if let Some(digest) = &self.trained.labels {
            self.check(is_hex64(digest), "trained.labels", digest, "64 hex digits")?;
        }
        Ok(())
    }

    /// Classes go with their task, are few, and no two share a name.
    fn validate_classes(&self) -> Result<(), LoadError> {
        let fits = (self.task == Task::Class) == matches!(self.output.kind, OutputKind::Classes { .. });
        self.check(
            fits,
            "output.kind",
            format!("{:?}", self.output.kind),
            "classes for the task class alone",
        )?;
        let OutputKind::Classes { names } = &self.output.kind else { return Ok(()) };
        let max = limits::MAX_CLASSES;
        self.check(
            (2..=max).contains(&names.len()),
            "classes.names",
            names.len(),
            format!("2 to {max} names"),
        )?;
        let wrong =
            names.iter().enumerate().find(|(at, name)| !is_class_name(name) || names[..*at].contains(name));
        let want = format!("different names of 1 to {} printable characters", limits::MAX_CLASS_CHARS);
        self.check(wrong.is_none(), "classes.names", wrong.map_or("", |(_, name)| name.as_str()), want)?;
        let plain = self.output.min.is_none() && self.interval.is_none();
        self.check(plain, "output", "with a minimum or an interval", "neither for classes")
    }

    fn validate_input(&self) -> Result<(), LoadError> {
        self.check(is_hex64(&self.input.space), "input.space", &self.input.space, "64 lowercase hex digits")?;
        let dim = self.input.dim;
        self.check(
            (1..=limits::MAX_DIM).contains(&dim),
            "input.dim",
            dim,
            format!("1..={}", limits::MAX_DIM),
        )?;
        let got = if self.input.grid.is_some() { "a grid" } else { "none" };
        let (fits, want) = match self.kind {
            Kind::Tokens(_) | Kind::Departures => {
                (self.input.grid.is_some(), "a grid, as this kind of head reads one")
            }
            Kind::Linear | Kind::Mlp | Kind::Kernel(_) => {
                (self.input.grid.is_none(), "none, as this kind of head reads the embedding")
            }
            Kind::Trees(_) => (true, ""),
        };
        self.check(fits, "input.grid", got, want)?;
        if let Kind::Trees(Trees { scales, .. }) = self.kind {
            let most = if self.input.grid.is_some() { limits::MAX_SCALES } else { 1 };
            self.check((1..=most).contains(&scales), "kind.trees.scales", scales, format!("1..={most}"))?;
        }
        if let Some(grid) = self.input.grid {
            for (field, value) in
                [("input.grid.rows", grid.rows), ("input.grid.cols", grid.cols), ("input.grid.dim", grid.dim)]
            {
                self.check(
                    (1..=limits::MAX_DIM).contains(&value),
                    field,
                    value,
                    format!("1..={}", limits::MAX_DIM),
                )?;
            }
            // Both factors are at most 2^16, so the product fits 64 bits.
            let tokens = u64::from(grid.rows) * u64::from(grid.cols);
            self.check(
                tokens <= u64::from(limits::MAX_TOKENS),
                "input.grid",
                format!("{}×{} tokens", grid.rows, grid.cols),
                format!("at most {} tokens", limits::MAX_TOKENS),
            )?;
            let numbers = tokens * u64::from(grid.dim);
            self.check(
                numbers <= u64::from(limits::MAX_GRID_NUMBERS),
                "input.grid",
                format!("{numbers} numbers"),
                format!("at most {}", limits::MAX_GRID_NUMBERS),
            )?;
            let area = u64::from(grid.cells) * u64::from(grid.cells);
            self.check(
                area > 0 && u64::from(grid.dim).is_multiple_of(area),
                "input.grid.cells",
                grid.cells,
                format!("a number whose square divides the {} numbers of a token", grid.dim),
            )?;
        }
        Ok(())
    }

    fn validate_output(&self) -> Result<(), LoadError> {
        self.validate_classes()?;
        if let OutputKind::Circular { period } = self.output.kind {
            self.check(
                period.is_finite() && period > 0.0,
                "output.kind.period",
                period,
                "a positive number",
            )?;
            let got = self.output.min.map_or_else(String::new, |min| min.to_string());
            self.check(self.output.min.is_none(), "output.min", got, "none for a circular output")?;
        }
        if let Some(min) = self.output.min {
            self.check(min.is_finite(), "output.min", min, "a finite number")?;
        }
        let Some(interval) = self.interval else { return Ok(()) };
        let level = interval.level;
        self.check(level > 0.0 && level < 1.0, "interval.level", level, "between 0 and 1")?;
        let offsets = format!("{}..{}", interval.lower, interval.upper);
        let ordered =
            interval.lower.is_finite() && interval.upper.is_finite() && interval.lower <= interval.upper;
        self.check(ordered, "interval", offsets, "finite offsets, lower ≤ upper")
    }
}

/// Whether a text can name a class: 1 to [`limits::MAX_CLASS_CHARS`] printable characters, none of them at the ends a
/// space.
pub fn is_class_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=limits::MAX_CLASS_CHARS).contains(&length)
        && !name.chars().any(char::is_control)
        && name.trim().len() == name.len()
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
