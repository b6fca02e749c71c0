//! The environment as a value, so that everything which depends on it can be tested without touching the process.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Environment variables by name. An empty variable counts as unset. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process; those that are not Unicode are left out.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The variable's value, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The user's home folder.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// A folder of the XDG base directory specification: `variable` if it is an absolute path, else `fallback` in the
    /// home folder.
    pub fn xdg(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let explicit = self.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        explicit.or_else(|| Some(self.home()?.join(fallback)))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
