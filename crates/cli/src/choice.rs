//! Which backup is meant: an id, the beginning of one, or `latest`.

use copal::{BackupChoice, BackupId, Copal, CopalError, ErrorKind, Result};

/// What was typed where a backup is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackupArgument {
    /// `latest`.
    Latest,
    /// A whole id.
    Id(BackupId),
    /// Its beginning.
    Prefix(String),
}

/// Reads `latest`, an id or the beginning of one.
pub(crate) fn argument(text: &str) -> std::result::Result<BackupArgument, String> {
    if text == "latest" {
        return Ok(BackupArgument::Latest);
    }
    if let Ok(id) = text.parse() {
        return Ok(BackupArgument::Id(id));
    }
    let fits = |c: char| c.is_ascii_digit() || matches!(c, '-' | 'Z' | 'a'..='f');
    if text.len() >= 4 && text.len() < 21 && text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(fits) {
        return Ok(BackupArgument::Prefix(text.to_owned()));
    }
    Err("a backup is named by its id as in `copal list`, the beginning of one (at least four characters), or `latest`"
        .into())
}

/// The one backup that is meant; the beginning of an id must fit exactly one.
pub(crate) async fn resolve(copal: &Copal, database: &str, argument: &BackupArgument) -> Result<BackupChoice> {
    let prefix = match argument {
        BackupArgument::Latest => return Ok(BackupChoice::Latest),
        BackupArgument::Id(id) => return Ok(BackupChoice::Id(id.clone())),
        BackupArgument::Prefix(prefix) => prefix,
    };
    let listings = copal.list(Some(database)).await?;
    let ids = listings.iter().flat_map(|listing| &listing.backups).map(|backup| &backup.id);
    let segments = listings.iter().flat_map(|listing| listing.journal.values()).flatten().map(|segment| &segment.id);
    let found: Vec<_> = ids.chain(segments).filter(|id| id.as_str().starts_with(prefix.as_str())).collect();
    match found.as_slice() {
        [] => Err(CopalError::new(ErrorKind::NotFound, format!("no backup of {database} begins with {prefix}"))
            .with_hint(format!("see copal list {database}"))),
        [only] => Ok(BackupChoice::Id((*only).clone())),
        several => {
            let newest: Vec<_> = several.iter().rev().take(4).map(|id| id.as_str()).collect();
            let message = format!("{} backups of {database} begin with {prefix}", several.len());
            Err(CopalError::new(ErrorKind::Usage, message)
                .with_hint(format!("write more of it: {}", newest.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_beginnings_are_accepted() {
        assert_eq!(argument("latest"), Ok(BackupArgument::Latest));
        assert!(matches!(argument("20261120-153000Z-7f3a"), Ok(BackupArgument::Id(_))));
        for prefix in ["2026", "20261120-15", "20261120-153000Z-7f3"] {
            assert_eq!(argument(prefix), Ok(BackupArgument::Prefix(prefix.into())));
        }
        for bad in ["", "202", "newest", "7f3a!", "20261120-153000Z-7f3a0", "../etc"] {
            assert!(argument(bad).is_err(), "{bad}");
        }
    }
}
