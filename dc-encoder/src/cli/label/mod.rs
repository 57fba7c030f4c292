//! `dc-encoder label`: choose frames, have them labelled, take the labels.

mod look;
mod send;
mod serve;
mod suggest;

pub use look::StatusArgs;
pub use send::{PullArgs, PushArgs};
pub use serve::{ListenArgs, ServeArgs};
pub use suggest::SuggestArgs;

/// Subcommands of `dc-encoder label`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Choose frames that are worth a label: diverse, new, typical, and where heads differ
    #[command(
        after_help = "Example:\n  dc-encoder label suggest --camera plaza-1 --task count --n 30 --batch monday --sheet monday.png"
    )]
    Suggest(SuggestArgs),
    /// Label a batch in the browser, by keyboard, on this machine
    #[command(after_help = "Example:\n  dc-encoder label serve --batch monday --who ann")]
    Serve(ServeArgs),
    /// Send a batch to a folder, to Label Studio or to Scale; without --batch, form the next one when it is time
    #[command(after_help = "Examples:\n  dc-encoder label push --batch monday --to to-label\n  \
                      dc-encoder label push --batch monday --to label-studio --head people-count.safetensors\n  \
                      dc-encoder label push --camera plaza-1 --task count --to label-studio     # from cron: full or old enough, within the budget")]
    Push(PushArgs),
    /// Take the labels of a batch, or of all that were sent to platforms; as often as you like, each counts once
    #[command(
        after_help = "Examples:\n  dc-encoder label pull --batch monday --who ann\n  dc-encoder label pull"
    )]
    Pull(PullArgs),
    /// Take labels as Scale reports them, behind this machine's own TLS proxy
    #[command(after_help = "Example:\n  dc-encoder label listen --config label.toml --port 8900")]
    Listen(ListenArgs),
    /// How far the batches are, where people differ, and who changed an answer
    #[command(after_help = "Example:\n  dc-encoder label status --batch monday")]
    Status(StatusArgs),
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps it from doing so; each says what to do.
pub fn run(command: Command) -> anyhow::Result<()> {
    shared::telemetry::init("info", shared::telemetry::Format::Text)?;
    match command {
        Command::Suggest(args) => suggest::suggest(&args),
        Command::Serve(args) => serve::serve(args),
        Command::Push(args) => send::push(args),
        Command::Pull(args) => send::pull(&args),
        Command::Listen(args) => serve::listen(&args),
        Command::Status(args) => look::status(&args),
    }
}
