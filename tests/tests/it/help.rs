//! What `--help` says of every command of both programs.

use clap::Command;

#[test]
fn every_command_has_an_example_that_it_accepts() {
    for (program, at_least) in [(dc_encoder::cli::command(), 40), (edge_agent::cli::command(), 10)] {
        let mut looked_at = 0;
        for_each_leaf(&program, program.get_name(), &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> = examples(&help, program.get_name());
            assert!(!examples.is_empty(), "{path} --help has no example");
            for words in examples {
                let parsed = program.clone().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{path}: {words:?}: {}", parsed.unwrap_err());
            }
            looked_at += 1;
        });
        assert!(looked_at >= at_least, "{looked_at} commands of {}", program.get_name());
    }
}

fn for_each_leaf(command: &Command, path: &str, look: &mut impl FnMut(&str, &Command)) {
    if command.has_subcommands() {
        for sub in command.get_subcommands() {
            for_each_leaf(sub, &format!("{path} {}", sub.get_name()), look);
        }
    } else {
        look(path, command);
    }
}

/// The command lines of a help's end as words, without what stands before the program's name or after `>` and `#`.
fn examples(help: &str, program: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        let words = line.split_whitespace().skip_while(|word| *word != program);
        let own = words.take_while(|word| ![">", "#"].contains(word));
        own.map(|word| word.trim_matches('\'').to_owned()).collect::<Vec<_>>()
    };
    let lines = help.replace("\\\n", " ");
    let indented = lines.lines().filter(|line| line.starts_with("  "));
    indented.map(words).filter(|words| words.len() > 1).collect()
}
