//! The kernels of a plan as one program: each with its constants in a namespace of its own.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Element;

const PRELUDE: &str = include_str!("../kernels/prelude.cu");

/// A number or a type that is compiled into a kernel: shapes are known when a model is opened.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) enum Constant {
    Whole(usize),
    Real(f32),
    Flag(bool),
    Type(Element),
}

impl Constant {
    fn line(self, name: &str) -> String {
        match self {
            Self::Whole(value) => format!("constexpr int {name} = {value};\n"),
            Self::Real(value) => format!("constexpr float {name} = {value:?}f;\n"),
            Self::Flag(value) => format!("constexpr bool {name} = {value};\n"),
            Self::Type(element) => format!("using {name} = {};\n", element.name()),
        }
    }
}

/// Kernels by number.
#[derive(Debug, Default)]
pub(in crate::backend::cuda) struct Program {
    names: Vec<String>,
    source: String,
    /// Numbers by label and source.
    found: HashMap<String, usize>,
}

impl Program {
    /// The number of the kernel of this source with these constants.
    pub(super) fn kernel(&mut self, label: &str, parts: &[&str], constants: &[(&str, Constant)]) -> usize {
        let lines = constants.iter().map(|(name, value)| value.line(name));
        let body: String = lines.chain(parts.iter().map(|part| format!("{part}\n"))).collect();
        if let Some(number) = self.found.get(&body) {
            return *number;
        }
        let number = self.names.len();
        let name = format!("{label}_{number}");
        // Writing to a string does not fail.
        let _ = write!(
            self.source,
            "#define KERNEL {name}\nnamespace space_{number} {{\n{body}}}\n#undef KERNEL\n"
        );
        self.names.push(name);
        self.found.insert(body, number);
        number
    }

    /// The names of the kernels, in the order of their numbers.
    pub(in crate::backend::cuda) fn names(&self) -> &[String] {
        &self.names
    }

    /// The whole text, for NVRTC.
    pub(in crate::backend::cuda) fn source(&self) -> String {
        format!("{PRELUDE}\n{}", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_the_same_constants_are_one() {
        let mut program = Program::default();
        let mut kernel = |cols| {
            program.kernel(
                "norm",
                &["void KERNEL();"],
                &[("COLS", Constant::Whole(cols)), ("EPS", Constant::Real(1e-5))],
            )
        };
        assert_eq!([kernel(8), kernel(9), kernel(8)], [0, 1, 0]);
        assert_eq!(program.names(), ["norm_0", "norm_1"]);
        let source = program.source();
        assert!(source.contains("constexpr int COLS = 9;\nconstexpr float EPS = 1e-5f;"), "{source}");
        assert_eq!(source.matches("#define KERNEL norm_1\n").count(), 1);
    }
}
