//! Questions on the terminal, for passphrases above all.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use copal::{CopalError, ErrorKind, PassphraseSource, Result, Secret};

use crate::run::interrupted_error;

/// The terminal as it was before its echo was switched off.
#[cfg(unix)]
static BEFORE: Mutex<Option<rustix::termios::Termios>> = Mutex::new(None);

/// Whether somebody is there to answer.
pub(crate) fn is_possible() -> bool {
    std::io::stdin().is_terminal()
}

/// Puts the terminal back as it was if a prompt is open; tells whether one is.
pub(crate) fn restore_terminal() -> bool {
    #[cfg(unix)]
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        return true;
    }
    false
}

/// Asks, with the terminal known so that an interruption puts it back as it was.
fn with_terminal<T>(ask: impl FnOnce() -> T) -> T {
    #[cfg(unix)]
    let set = |terminal| *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = terminal;
    #[cfg(unix)]
    set(rustix::termios::tcgetattr(std::io::stdin()).ok());
    let answer = ask();
    #[cfg(unix)]
    set(None);
    answer
}

/// One line of what is no secret; empty at the end of the input.
pub(crate) fn line(question: &str) -> Result<String> {
    let answer = with_terminal(|| {
        // Without standard error nobody sees the question; the answer is read all the same.
        let _ = write!(std::io::stderr(), "{question}: ");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let failed = |error| CopalError::new(ErrorKind::Failed, "the terminal cannot be read").because(error);
    Ok(answer.map_err(failed)?.trim().to_owned())
}

fn ask(question: &str) -> Result<Secret> {
    let answer = with_terminal(|| rpassword::prompt_password(format!("{question}: ")));
    let text = answer.map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => interrupted_error(),
        _ => CopalError::new(ErrorKind::Passphrase, "the passphrase cannot be read from the terminal").because(error),
    })?;
    if text.is_empty() {
        return Err(CopalError::new(ErrorKind::Passphrase, "the passphrase is empty"));
    }
    Ok(Secret::new(text))
}

/// A source that asks when a passphrase is needed, once.
pub(crate) fn source() -> PassphraseSource {
    let answered: Mutex<Option<Secret>> = Mutex::new(None);
    PassphraseSource::Ask(Arc::new(move |what| {
        let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = &*answered {
            return Ok(secret.clone());
        }
        let secret = ask(&question(what))?;
        *answered = Some(secret.clone());
        Ok(secret)
    }))
}

fn question(what: &str) -> String {
    match what {
        "" => "Passphrase".into(),
        what if what.to_lowercase().contains("passphrase") => what.to_owned(),
        what => format!("Passphrase of {what}"),
    }
}

/// Lets the user choose a new passphrase, typed twice.
pub(crate) fn choose() -> Result<Secret> {
    let first = ask("New passphrase")?;
    if ask("The same once more")? != first {
        return Err(CopalError::new(ErrorKind::Passphrase, "the two passphrases differ"));
    }
    Ok(first)
}
