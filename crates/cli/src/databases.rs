//! Which databases are meant by `--all`, or by naming none.

use std::collections::BTreeMap;

use copal::{Copal, CopalError, ErrorKind, FolderName, Result};

use crate::output::Output;

/// Every database of the configuration.
pub(crate) fn configured(copal: &Copal) -> Result<Vec<String>> {
    let names: Vec<_> = copal.settings().databases.keys().cloned().collect();
    if names.is_empty() {
        let error = CopalError::new(ErrorKind::Configuration, "--all: no database is configured");
        return Err(error.with_hint("copal init -d sqlite:path/to/app.db writes a copal.toml with one"));
    }
    Ok(names)
}

/// Every database of the repository, by the configured name if it has one, so that its own rules apply. A configured
/// database without any backup is not protected, which is a warning.
pub(crate) async fn stored(copal: &Copal, output: &Output) -> Result<Vec<String>> {
    let listings = copal.list(None).await?;
    let configured = copal.settings().databases.keys();
    let configured: BTreeMap<_, _> = configured.map(|name| (FolderName::nearest(name, 64), name)).collect();
    let is_there = |folder: &FolderName, name: &str| {
        let members = copal.is_whole_server(name).then(|| format!("{folder}."));
        let is_member = |found: &FolderName| members.as_ref().is_some_and(|start| found.as_str().starts_with(start));
        listings.iter().any(|listing| listing.database == *folder || is_member(&listing.database))
    };
    for (_, name) in configured.iter().filter(|(folder, name)| !is_there(folder, name)) {
        output.warning(&format!("{name} is configured and has no backup yet"));
    }
    let name = |folder: &FolderName| configured.get(folder).map_or_else(|| folder.to_string(), |name| (*name).clone());
    Ok(listings.iter().map(|listing| name(&listing.database)).collect())
}
