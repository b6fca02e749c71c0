//! The names of all objects; docs/format.md, "Names".

use copal_core::{BackupId, FolderName, PackId};
use copal_storage::ObjectPath;

/// The kinds of mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Kept for ever.
    Pinned,
    /// All content was read back.
    Verified,
}

impl Mark {
    fn suffix(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Verified => "verified",
        }
    }

    /// Takes the name of a mark apart; `None` if it is none.
    pub(crate) fn parse(file_name: &str) -> Option<(BackupId, Self)> {
        let (id, suffix) = file_name.split_once('.')?;
        let mark = [Self::Pinned, Self::Verified].into_iter().find(|m| m.suffix() == suffix)?;
        Some((id.parse().ok()?, mark))
    }
}

// Every part is a checked id or a constant, so the result always satisfies `ObjectPath`; a name that did not would
// become the harmless "invalid".
fn path(text: String) -> ObjectPath {
    ObjectPath::parse(&text).unwrap_or_else(|_| ObjectPath::parse("invalid").unwrap_or_else(|_| unreachable!()))
}

pub(crate) fn config() -> ObjectPath {
    path("copal.json".into())
}

pub(crate) fn readme() -> ObjectPath {
    path("README.txt".into())
}

pub(crate) fn keys() -> ObjectPath {
    path("keys".into())
}

pub(crate) fn key(id: &str) -> ObjectPath {
    path(format!("keys/{id}.age"))
}

pub(crate) fn lease(name: &FolderName) -> ObjectPath {
    path(format!("leases/{name}"))
}

pub(crate) fn databases() -> ObjectPath {
    path("databases".into())
}

pub(crate) fn database_folder(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}"))
}

pub(crate) fn database(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}/database"))
}

pub(crate) fn backups(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}/backups"))
}

pub(crate) fn backup(name: &FolderName, id: &BackupId) -> ObjectPath {
    path(format!("databases/{name}/backups/{id}"))
}

pub(crate) fn packs(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}/packs"))
}

pub(crate) fn pack(name: &FolderName, id: &PackId) -> ObjectPath {
    path(format!("databases/{name}/packs/{id}"))
}

pub(crate) fn marks(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}/marks"))
}

pub(crate) fn mark(name: &FolderName, id: &BackupId, mark: Mark) -> ObjectPath {
    path(format!("databases/{name}/marks/{id}.{}", mark.suffix()))
}

pub(crate) fn journal(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}/journal"))
}

pub(crate) fn segment(name: &FolderName, id: &BackupId) -> ObjectPath {
    path(format!("databases/{name}/journal/{id}"))
}

pub(crate) fn plans(name: &FolderName) -> ObjectPath {
    path(format!("databases/{name}/plans"))
}

pub(crate) fn plan(name: &FolderName, id: &BackupId) -> ObjectPath {
    path(format!("databases/{name}/plans/{id}"))
}
