//! One call of a storage, as the wrappers for tests record and stop it.

use crate::ObjectPath;

/// A method of [`crate::Storage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// `get`
    Get,
    /// `get_range`
    GetRange,
    /// `head`
    Head,
    /// `get_versioned`
    GetVersioned,
    /// `create`
    Create,
    /// `replace`
    Replace,
    /// `list`
    List,
    /// `list_folders`
    ListFolders,
    /// `delete`
    Delete,
    /// `sweep_staging`
    SweepStaging,
}

impl Method {
    /// Whether it can change anything in the storage.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Create | Self::Replace | Self::Delete | Self::SweepStaging)
    }
}

/// One call: what, on which object or folder, with how many bytes written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The object or folder; `None` for the top.
    pub path: Option<ObjectPath>,
    /// The bytes to write, or the length of the range to read; otherwise 0.
    pub bytes: u64,
}

impl Call {
    pub(crate) fn new(method: Method, path: Option<&ObjectPath>, bytes: u64) -> Self {
        Self { method, path: path.cloned(), bytes }
    }

    /// The path as text, empty for the top.
    pub fn path_text(&self) -> &str {
        self.path.as_ref().map_or("", ObjectPath::as_str)
    }
}
