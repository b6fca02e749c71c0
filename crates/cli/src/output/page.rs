//! Errors as people read them: `Error`, `Caused by`, `Hint`.

use copal::CopalError;

use super::style::{Style, clean};

/// The page of an error, without a line end.
pub(super) fn render(error: &CopalError, style: Style) -> String {
    let mut lines = vec![format!("{} {}", style.red("Error:"), clean(&error.to_string()))];
    lines.extend(error.causes().iter().map(|cause| format!("{} {}", style.bold("Caused by:"), clean(cause))));
    lines.extend(error.hint().map(|hint| format!("{} {}", style.green("Hint:"), clean(hint))));
    lines.join("\n")
}
