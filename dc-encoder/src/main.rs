//! `dc-encoder`: see `dc-encoder --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dc_encoder::cli::main()
}
