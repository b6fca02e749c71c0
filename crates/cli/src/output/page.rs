//! Errors as people read them: `Error`, `Caused by`, `Hint`.

use copal::{CopalError, ErrorKind};

use super::style::{Style, clean};

/// The page of an error, without a line end. That something is not there has causes only for those who ask for more.
pub(super) fn render(error: &CopalError, is_verbose: bool, style: Style) -> String {
    let mut lines = vec![format!("{} {}", style.red("Error:"), clean(&error.to_string()))];
    if error.kind() != ErrorKind::NotFound || is_verbose {
        lines.extend(error.causes().iter().map(|cause| format!("{} {}", style.bold("Caused by:"), clean(cause))));
    }
    lines.extend(error.hint().map(|hint| format!("{} {}", style.green("Hint:"), clean(hint))));
    lines.join("\n")
}
