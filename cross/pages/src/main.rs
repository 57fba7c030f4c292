//! `pages PROGRAM DIR`: the man pages and shell completions of a package, from the program's own definition, and its
//! example of a configuration, in the folders where Debian has them. A program of its own, so that none of it is in the agent.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap_complete::{Shell, generate_to};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [program, dir] = args.as_slice() else {
        eprintln!("usage: pages edge-agent|dc-encoder DIR");
        return ExitCode::from(2);
    };
    let command = match program.as_str() {
        "edge-agent" => edge_agent::cli::command(),
        "dc-encoder" => dc_encoder::cli::command(),
        other => {
            eprintln!("error: no program {other:?}: edge-agent or dc-encoder");
            return ExitCode::from(2);
        }
    };
    match write(command, Path::new(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {dir}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(mut command: clap::Command, dir: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let man = dir.join("usr/share/man/man1");
    std::fs::create_dir_all(&man)?;
    // Of a terminal's width, `wrap_help` knows nothing here: the width must not depend on who builds.
    command = command.term_width(100);
    clap_mangen::generate_to(command.clone(), &man)?;
    for (shell, folder, file) in [
        (Shell::Bash, "usr/share/bash-completion/completions", name.clone()),
        (Shell::Zsh, "usr/share/zsh/vendor-completions", format!("_{name}")),
        (Shell::Fish, "usr/share/fish/vendor_completions.d", format!("{name}.fish")),
    ] {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder)?;
        let written = generate_to(shell, &mut command, &name, &folder)?;
        std::fs::rename(written, folder.join(file))?;
    }
    if name == "edge-agent" {
        let examples = dir.join("usr/share/doc/edge-agent/examples");
        std::fs::create_dir_all(&examples)?;
        std::fs::write(examples.join("agent.toml"), edge_agent::config::EXAMPLE)?;
    }
    Ok(())
}
