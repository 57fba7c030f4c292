//! Runs a plan on the processor: its kernels compiled by a C++ compiler behind `host.h`, its products as plain loops over
//! what cuBLASLt would be given. It checks arithmetic, indices and barriers; not a GPU, not cuBLASLt, not the driver.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use super::plan::{Element, Gemm, Layout, Memory, Plan, Step};

const HOST: &str = include_str!("host.h");

/// What is run.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) steps: Vec<&'a Step>,
    pub(super) frames: usize,
    /// What is written before the first step, beside what the plan says.
    pub(super) inputs: Vec<(Memory, Vec<u8>)>,
    /// What is read after the last step.
    pub(super) outputs: Vec<Memory>,
}

impl Run<'_> {
    /// Compiles and runs it; the bytes of each output.
    pub(super) fn outputs(&self) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("plan.cpp"), dir.path().join("plan"));
        std::fs::write(&source, self.source()).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
        let compiled = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-w", "-o"])
            .args([&program, &source])
            .output()
            .unwrap_or_else(|error| panic!("{compiler}: {error} (Debian: build-essential)"));
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for (_, contents) in self.contents() {
            // A program that has failed reads no more; its status is looked at below.
            let _ = stdin.write_all(contents);
        }
        drop(stdin);
        let mut bytes = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        assert!(child.wait().unwrap().success(), "the plan failed; its own message is above");
        let mut rest = &bytes[..];
        let mut outputs = Vec::new();
        for output in &self.outputs {
            let (output, after) = rest.split_at(self.plan.memory[output.0].bytes);
            outputs.push(output.to_vec());
            rest = after;
        }
        outputs
    }

    fn contents(&self) -> impl Iterator<Item = (usize, &Vec<u8>)> {
        let first = self.plan.memory.iter().map(|piece| &piece.contents).enumerate();
        let then = self.inputs.iter().map(|(memory, contents)| (memory.0, contents));
        first.chain(then).filter(|(_, contents)| !contents.is_empty())
    }

    fn source(&self) -> String {
        let mut main = String::from("int main() {\n    unsigned char *at[] = {\n");
        let mut line = |text: String| writeln!(main, "    {text}").unwrap();
        for piece in &self.plan.memory {
            line(format!("    memory({}), // {}", piece.bytes, piece.label));
        }
        line("};".to_owned());
        for (number, contents) in self.contents() {
            line(format!("read_all(at[{number}], {});", contents.len()));
        }
        for step in &self.steps {
            line(match step {
                Step::Product(product) => gemm(&product.gemm(self.frames)),
                Step::Launch(launch) => {
                    let name = &self.plan.program.names()[launch.kernel];
                    let arguments: Vec<String> = launch
                        .arguments
                        .iter()
                        .map(|memory| format!("Pointer{{at[{}]}}", memory.0))
                        .collect();
                    let [x, y, z] = launch.grid.blocks(self.frames);
                    format!(
                        "launch({{{x}, {y}, {z}}}, {}, [&] {{ space_{}::{name}({}); }});",
                        launch.threads,
                        launch.kernel,
                        arguments.join(", ")
                    )
                }
            });
        }
        for output in &self.outputs {
            line(format!("write_all(at[{}], {});", output.0, self.plan.memory[output.0].bytes));
        }
        format!("{HOST}\n{}\n{main}}}\n", self.plan.program.source())
    }
}

fn gemm(gemm: &Gemm) -> String {
    let layout = |layout: &Layout, transposed: bool| {
        let Layout { memory, element, leading, batch, .. } = layout;
        let half = *element == Element::Bf16;
        format!("Layout{{at[{}], {half}, {transposed}, {leading}, {batch}}}", memory.0)
    };
    let Gemm { m, n, k, count, transposed, a, b, c, d, alpha, beta, bias } = gemm;
    let bias = bias.map_or("nullptr".to_owned(), |bias| format!("(const float *)at[{}]", bias.0));
    format!(
        "product(Gemm{{{m}, {n}, {k}, {count}, {alpha:?}f, {beta:?}f, {}, {}, {}, {}, {bias}}}, narrow<bf16>);",
        layout(a, *transposed),
        layout(b, false),
        layout(c, false),
        layout(d, false)
    )
}
