//! An object store as storage, on `object_store`.
//!
//! Owns the translation of calls, versions and errors. Every call is one request (or one per page of a listing) with
//! a deadline; nothing is retried here, because a retried conditional write hides whether its first try took place:
//! [`crate::Retrying`] does that knowingly.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    PutResult, UpdateVersion,
};

use crate::storage::range_length;
use crate::{ObjectInfo, ObjectPath, Result, Storage, StorageError, StorageErrorKind, Version};

mod errors;

#[cfg(test)]
mod tests;

/// How long a store may take to answer, or to send the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The slowest transfer that is not given up, in bytes per second.
const SLOWEST: u64 = 64 * 1024;

/// What a store calls the state of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionForm {
    /// The entity tag (S3, Azure, memory).
    ETag,
    /// The generation (Google Cloud Storage).
    #[cfg_attr(not(feature = "gcs"), allow(dead_code))]
    Generation,
}

/// A storage in a bucket of an object store, below a prefix.
#[derive(Clone, Debug)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    form: VersionForm,
}

impl ObjectStorage {
    /// Wraps a store that names states by entity tags; `prefix` may be empty, and `url` is shown in messages.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, url: impl Into<String>) -> Result<Self> {
        Self::with_form(store, prefix, url.into(), VersionForm::ETag)
    }

    pub(crate) fn with_form(store: Arc<dyn ObjectStore>, prefix: &str, url: String, form: VersionForm) -> Result<Self> {
        let prefix = Path::parse(prefix).map_err(|e| {
            StorageError::new(StorageErrorKind::Configuration, format!("{prefix:?} cannot be a prefix")).because(e)
        })?;
        Ok(Self { store, prefix, url, form })
    }

    fn location(&self, path: &ObjectPath) -> Path {
        // Object names need no escaping, so the joined text is what the store sees.
        Path::from_iter(self.prefix.parts().chain(Path::from(path.as_str()).parts()))
    }

    /// The object's name of a store's name.
    fn name(&self, location: &Path) -> Option<ObjectPath> {
        let below = location.as_ref().strip_prefix(self.prefix.as_ref())?;
        ObjectPath::parse(below.trim_start_matches('/')).ok()
    }

    fn info(&self, path: ObjectPath, meta: &ObjectMeta) -> ObjectInfo {
        let nanos = i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or(0);
        let modified = jiff::Timestamp::new(meta.last_modified.timestamp(), nanos);
        ObjectInfo { path, size: meta.size, modified: modified.unwrap_or(jiff::Timestamp::UNIX_EPOCH) }
    }

    fn version(&self, e_tag: Option<&String>, generation: Option<&String>) -> Option<Version> {
        let tag = match self.form {
            VersionForm::ETag => e_tag,
            VersionForm::Generation => generation,
        };
        tag.cloned().map(Version::from_tag)
    }

    fn error(&self, error: object_store::Error) -> StorageError {
        errors::translate(error, &self.url)
    }

    /// Waits for a store's answer no longer than `deadline`.
    async fn answer<T>(&self, deadline: Duration, call: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer.map_err(|e| self.error(e)),
            Err(_) => Err(errors::timed_out(&self.url, deadline)),
        }
    }

    async fn get_result(&self, path: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        let location = self.location(path);
        self.answer(PATIENCE, self.store.get_opts(&location, options)).await
    }

    /// Reads a body; its parts may come slowly but must come.
    async fn body(&self, result: GetResult) -> Result<Bytes> {
        let size = result.range.end.saturating_sub(result.range.start);
        let mut parts = result.into_stream();
        let mut whole = BytesMut::new();
        let mut first = None;
        loop {
            let part = async { parts.next().await.transpose() };
            match (self.answer(PATIENCE, part).await?, &mut first) {
                (Some(part), None) if part.len() as u64 == size => first = Some(part),
                (Some(part), first) => {
                    if let Some(first) = first.take() {
                        whole.extend_from_slice(&first);
                    }
                    whole.extend_from_slice(&part);
                }
                (None, first) => break Ok(first.take().unwrap_or_else(|| whole.freeze())),
            }
        }
    }

    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutResult> {
        let location = self.location(path);
        let deadline = PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOWEST);
        let options = PutOptions { mode, ..PutOptions::default() };
        self.answer(deadline, self.store.put_opts(&location, PutPayload::from_bytes(bytes), options)).await
    }

    /// The version that a write answered with, or, from a store that does not answer with one, that of our bytes.
    async fn written(&self, path: &ObjectPath, bytes: &Bytes, put: PutResult) -> Result<Version> {
        if let Some(version) = self.version(put.e_tag.as_ref(), put.version.as_ref()) {
            return Ok(version);
        }
        match self.get_versioned(path).await {
            Ok((found, version)) if found == *bytes => Ok(version),
            Ok(_) => Err(StorageError::new(StorageErrorKind::Conflict, "the object was replaced at once by another")),
            Err(e) if e.kind() == StorageErrorKind::NotFound => {
                Err(StorageError::new(StorageErrorKind::Conflict, "the object was removed at once").because(e))
            }
            Err(e) => Err(e),
        }
    }
}

#[async_trait]
impl Storage for ObjectStorage {
    fn url(&self) -> &str {
        &self.url
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        let result = self.get_result(path, GetOptions::default()).await.map_err(|e| at(e, path))?;
        self.body(result).await.map_err(|e| at(e, path))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        let length = range_length(&range)?;
        if length == 0 {
            let size = self.head(path).await?.size;
            let is_inside = range.end <= size;
            return if is_inside { Ok(Bytes::new()) } else { Err(StorageError::truncated(&range, size).at(path)) };
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let result = match self.get_result(path, options).await {
            Ok(result) => result,
            // Stores refuse a range that begins or ends past the object in several ways; its size tells.
            Err(error) if matches!(error.kind(), StorageErrorKind::Other | StorageErrorKind::Truncated) => {
                let size = self.head(path).await?.size;
                let is_inside = range.end <= size;
                let error = if is_inside { at(error, path) } else { StorageError::truncated(&range, size).at(path) };
                return Err(error);
            }
            Err(error) => return Err(at(error, path)),
        };
        let size = result.meta.size;
        let bytes = self.body(result).await.map_err(|e| at(e, path))?;
        if bytes.len() == length {
            return Ok(bytes);
        }
        if size >= range.end {
            let message = format!("{} of {length} bytes arrived", bytes.len());
            return Err(StorageError::new(StorageErrorKind::Transient, message).at(path));
        }
        Err(StorageError::truncated(&range, size).at(path))
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        let location = self.location(path);
        let meta = self.answer(PATIENCE, self.store.head(&location)).await.map_err(|e| at(e, path))?;
        Ok(self.info(path.clone(), &meta))
    }

    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)> {
        let result = self.get_result(path, GetOptions::default()).await.map_err(|e| at(e, path))?;
        let version = self.version(result.meta.e_tag.as_ref(), result.meta.version.as_ref());
        let version = version.ok_or_else(|| {
            let message = "the store does not tell versions of objects (no ETag)";
            StorageError::new(StorageErrorKind::Unsupported, message).at(path)
        })?;
        Ok((self.body(result).await.map_err(|e| at(e, path))?, version))
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version> {
        let put = self.put(path, bytes.clone(), PutMode::Create).await.map_err(|e| at(e, path))?;
        self.written(path, &bytes, put).await.map_err(|e| at(e, path))
    }

    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version> {
        let tag = expected.tag().into_owned();
        let update = match self.form {
            VersionForm::ETag => UpdateVersion { e_tag: Some(tag), version: None },
            VersionForm::Generation => UpdateVersion { e_tag: None, version: Some(tag) },
        };
        let put = self.put(path, bytes.clone(), PutMode::Update(update)).await.map_err(|e| match e.kind() {
            StorageErrorKind::NotFound if !errors::is_bucket_gone(&e) => {
                let message = "the object to replace is gone";
                StorageError::new(StorageErrorKind::Conflict, message).at(path).because(e)
            }
            _ => at(e, path),
        })?;
        self.written(path, &bytes, put).await.map_err(|e| at(e, path))
    }

    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        let below = self.location(folder);
        let mut metas = self.store.list(Some(&below));
        let mut found = Vec::new();
        loop {
            let next = async { metas.next().await.transpose() };
            let Some(meta) = self.answer(PATIENCE, next).await.map_err(|e| at(e, folder))? else { break };
            if let Some(path) = self.name(&meta.location).filter(|path| path != folder) {
                found.push(self.info(path, &meta));
            }
        }
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        let below = folder.map_or_else(|| self.prefix.clone(), |f| self.location(f));
        let below = Some(&below).filter(|b| !b.is_root());
        // Several pages, in one answer.
        let listed = self.answer(PATIENCE * 5, self.store.list_with_delimiter(below)).await?;
        let names = listed.common_prefixes.iter().filter_map(|p| self.name(p));
        let mut names: Vec<String> = names.map(|p| p.file_name().to_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        let location = self.location(path);
        match self.answer(PATIENCE, self.store.delete(&location)).await {
            Err(e) if e.kind() == StorageErrorKind::NotFound && !errors::is_bucket_gone(&e) => Ok(()),
            other => other.map_err(|e| at(e, path)),
        }
    }

    async fn sweep_staging(&self, _folder: &ObjectPath, _older_than: Duration) -> Result<u64> {
        Ok(0) // One request per object: a killed writer leaves nothing.
    }
}

/// Names the object, unless the error is about the whole bucket.
fn at(error: StorageError, path: &ObjectPath) -> StorageError {
    if errors::is_bucket_gone(&error) { error } else { error.at(path) }
}
