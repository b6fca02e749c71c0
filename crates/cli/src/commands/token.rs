//! `copal token`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use copal::{CopalError, ErrorKind, Result};
use copal_daemon::{Role, TOKENS_FILE, TokenError, TokenFile, TokenInfo};
use jiff::Timestamp;
use serde::Serialize;

use crate::output::{Align, Style, Table, local_time, plural};
use crate::session::Session;

/// Manage the tokens of the daemon's HTTP API.
///
/// A token lets a program talk to `copal serve`: a viewer looks, an operator also starts and cancels runs and
/// restores to new places, an admin also replaces databases. Only hashes are kept, in `[daemon] tokens_file`, else in tokens.toml in the state folder. A daemon
/// that runs with the same configuration goes by them a second later.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal token list
  copal token add grafana --role viewer       prints the token, this once
  copal token add ops --role admin > token    for a script
  copal token remove grafana")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the tokens.
#[derive(Debug, Subcommand)]
enum Action {
    /// List the tokens: names and roles, never the tokens themselves.
    List,
    /// Make a token and print it, this once.
    Add {
        /// Whose or what for it is: letters, digits, dots, dashes and underscores.
        name: String,
        /// What its bearer may do.
        #[arg(long, value_name = "ROLE", value_parser = roles())]
        role: Role,
    },
    /// Remove a token; who has it is refused from then on.
    Remove {
        /// Its name, as in `copal token list`.
        name: String,
    },
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|word| word.parse::<Role>())
}

const SHOWN_ONCE: &str = "the token is shown this once; programs send it as `Authorization: Bearer TOKEN`, and copal takes it \
                          from COPAL_TOKEN";

/// A token that was made, in JSON: the only place where it stands.
#[derive(Serialize)]
struct NewToken<'a> {
    name: &'a str,
    role: Role,
    created: Timestamp,
    token: &'a str,
}

impl Arguments {
    /// The command's name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self.action {
            Action::List => "token list",
            Action::Add { .. } => "token add",
            Action::Remove { .. } => "token remove",
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let (file, output) = (file(session)?, &session.output);
    match &arguments.action {
        Action::List => {
            let tokens = file.list().map_err(failed)?;
            tokens.iter().for_each(|token| output.result(token));
            if tokens.is_empty() {
                output.notice(&format!("there is no token in {}", file.path().display()));
            } else {
                output.text(&render(&tokens, output.style));
            }
        }
        Action::Add { name, role } => {
            let now = Timestamp::now();
            let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
            let token = file.add(name, *role, created).map_err(failed)?;
            output.result(&NewToken { name, role: *role, created, token: token.reveal() });
            output.text(token.reveal());
            output.notice(SHOWN_ONCE);
        }
        Action::Remove { name } => {
            output.result(&file.remove(name).map_err(failed)?);
            let left = plural(file.list().map_err(failed)?.len(), "token");
            output.done(&format!("Token removed; {left} left."));
        }
    }
    Ok(())
}

/// The file of the configuration, else the one in the state folder.
fn file(session: &Session) -> Result<TokenFile> {
    let configuration = session.configuration()?;
    if let Some(file) = &configuration.daemon.tokens_file {
        return Ok(TokenFile::new(file));
    }
    let state = session.settings(&configuration)?.state.ok_or_else(|| {
        CopalError::new(ErrorKind::Configuration, "without HOME there is no state folder for the tokens")
            .with_hint("name a file in the configuration: [daemon] tokens_file")
    })?;
    Ok(TokenFile::new(state.join(TOKENS_FILE)))
}

fn failed(error: TokenError) -> CopalError {
    let kind = match &error {
        TokenError::Name(_) => ErrorKind::Usage,
        TokenError::Exists { .. } => ErrorKind::Exists,
        TokenError::Unknown { .. } => ErrorKind::NotFound,
        TokenError::Wrong { .. } => ErrorKind::Configuration,
        TokenError::Unreadable(_, cause) | TokenError::Unwritable(_, cause) => match cause.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Failed,
        },
        TokenError::Random => ErrorKind::Failed,
    };
    CopalError::new(kind, error.to_string()).because(error)
}

fn render(tokens: &[TokenInfo], style: Style) -> String {
    let mut table = Table::new(&[("NAME", Align::Left), ("ROLE", Align::Left), ("CREATED", Align::Left)]);
    for token in tokens {
        table.row([token.name.clone(), token.role.to_string(), local_time(token.created)]);
    }
    table.render(style)
}
