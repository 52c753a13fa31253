//! The command line: one file a subcommand, which parses its arguments, calls, prints, and says how it ended.
//!
//! A subcommand is a struct `Args` with a `run(self) -> io::Result<Exit>`; to add one, add its file, its line in
//! [`Command`] and its line in [`Command::run`]. Nothing is decided here. An error that `run` returns is one of
//! writing the answer: a closed pipe is no error, anything else is "the system refused".

mod check;
mod client;
mod completions;
mod drain;
mod drill;
mod events;
mod handover;
mod keygen;
mod lab;
mod man;
mod output;
mod reload;
mod report;
mod run;
mod status;
mod witness;

use std::io;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, Parser, Subcommand};

/// How a command ended: the exit code, the same for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or the answer is yes.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong.
    Configuration = 3,
    /// No agent answers.
    NoAgent = 4,
    /// Not permitted.
    NotPermitted = 5,
    /// The system refused.
    Refused = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "vipd",
    version,
    about = "Virtual-IP failover: an address that moves to a healthy host, and is never left in two places",
    long_about = "Virtual-IP failover: an address that moves to a healthy host, and is never left in two places.\n\n\
                  Each host of a pair or a cluster runs one agent. The agents speak VRRP (RFC 9568, and RFC 3768 for \
                  older routers); the one of the highest priority owns the addresses, and when it dies the next one \
                  takes them within a little more than three advert intervals.",
    after_help = SHORT_HELP,
    after_long_help = LONG_HELP,
    styles = STYLES,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Status(status::Args),
    Events(events::Args),
    Report(report::Args),
    Reload(reload::Args),
    Drain(drain::Drain),
    Undrain(drain::Undrain),
    Handover(handover::Args),
    Drill(drill::Args),
    Witness(witness::Args),
    Keygen(keygen::Args),
    Lab(lab::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    fn run(self) -> io::Result<Exit> {
        match self {
            Self::Run(args) => args.run(),
            Self::Check(args) => args.run(),
            Self::Status(args) => args.run(),
            Self::Events(args) => args.run(),
            Self::Report(args) => args.run(),
            Self::Reload(args) => args.run(),
            Self::Drain(args) => args.run(),
            Self::Undrain(args) => args.run(),
            Self::Handover(args) => args.run(),
            Self::Drill(args) => args.run(),
            Self::Witness(args) => args.run(),
            Self::Keygen(args) => args.run(),
            Self::Lab(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default().bold());

const SHORT_HELP: &str = "\
Exit codes: 0 done, 1 the answer is no, 2 usage, 3 configuration, 4 no agent, 5 not permitted, 6 the system refused.
`vipd --help` shows a first example.";

const LONG_HELP: &str = r#"First example:
  Write this to /etc/vipd/vipd.toml on two hosts, with another priority on the second:

      [[vip]]
      name      = "db"
      interface = "eno1"                  # as `ip link` shows it
      vrid      = 51                      # the same on both hosts
      priority  = 150                     # the higher one owns the address
      addresses = ["10.20.0.100/24"]

  and on both hosts:

      vipd check                          # is the file right, and what does it mean?
      systemctl enable --now vipd

  Later, once the file was changed:

      vipd check && vipd reload           # what is the same goes on as it was

Files:
  /etc/vipd/vipd.toml        the configuration; `vipd check --schema` prints its JSON schema
  /run/vipd/control.sock     where the running agent answers
  /var/lib/vipd              the journal of events: `vipd events`, `vipd report`

Exit codes:
  0  done, or the answer is yes
  1  the answer is no
  2  usage: the command line is wrong
  3  configuration: the file is wrong
  4  no agent answers
  5  not permitted
  6  the system refused"#;

/// Parses the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    // A wrong command line ends here with code 2, and `--help` with 0.
    let exit = Cli::parse().command.run().unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::Done,
        _ => {
            output::complain(&format!("vipd: cannot write: {error}\n"));
            Exit::Refused
        }
    });
    exit.into()
}

/// The description of the whole command line, from which help, completions and manual pages are made.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_names_each_exit_code() {
        let help = command().render_long_help().to_string();
        let codes = [
            (Exit::Done, "done"),
            (Exit::No, "the answer is no"),
            (Exit::Usage, "usage"),
            (Exit::Configuration, "configuration"),
            (Exit::NoAgent, "no agent"),
            (Exit::NotPermitted, "not permitted"),
            (Exit::Refused, "the system refused"),
        ];
        for (exit, words) in codes {
            assert!(help.contains(&format!("  {}  {words}", exit as u8)), "{exit:?}");
            assert!(SHORT_HELP.contains(&format!("{} {words}", exit as u8)), "{exit:?}");
        }
    }
}
