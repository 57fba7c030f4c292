//! `dc-encoder`: see `dc-encoder --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dc_encoder::backend::sleep_when_idle();
    dc_encoder::cli::main()
}
