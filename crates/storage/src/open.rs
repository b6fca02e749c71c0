//! Opening the storage that a URL names.

use std::sync::Arc;

use crate::{LocalStorage, Result, Retrying, Storage, StorageError, StorageErrorKind, StorageOptions, StorageUrl};

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcs")]
mod gcs;
mod s3;

/// Opens a storage that is there, retrying transient errors. Of a remote one nothing is asked yet.
pub async fn open(url: &StorageUrl, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
    let plain: Arc<dyn Storage> = match url {
        StorageUrl::Local(path) => {
            let path = path.clone();
            Arc::new(blocking(move || LocalStorage::open(path)).await?)
        }
        StorageUrl::S3 { bucket, prefix } => Arc::new(s3::open(bucket, prefix, &url.to_string(), &options.s3)?),
        #[cfg(feature = "gcs")]
        StorageUrl::Gcs { bucket, prefix } => Arc::new(gcs::open(bucket, prefix, &url.to_string())?),
        #[cfg(not(feature = "gcs"))]
        StorageUrl::Gcs { .. } => return Err(not_built("Google Cloud Storage", "gcs")),
        #[cfg(feature = "azure")]
        StorageUrl::Azure { container, prefix } => Arc::new(azure::open(container, prefix, &url.to_string())?),
        #[cfg(not(feature = "azure"))]
        StorageUrl::Azure { .. } => return Err(not_built("Azure", "azure")),
        #[cfg(any(test, feature = "testkit"))]
        StorageUrl::Memory(name) => Arc::new(crate::MemoryStorage::named(name)),
        #[cfg(not(any(test, feature = "testkit")))]
        StorageUrl::Memory(_) => {
            let message = "a repository in memory is for tests only";
            return Err(StorageError::new(StorageErrorKind::Configuration, message));
        }
    };
    Ok(Arc::new(Retrying::new(plain, options.retry)))
}

/// Makes the folder of a local storage unless it is there, then opens as [`open`] does. Buckets are not made.
pub async fn create(url: &StorageUrl, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
    if let StorageUrl::Local(path) = url {
        let path = path.clone();
        blocking(move || LocalStorage::create(path)).await?;
    }
    open(url, options).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(StorageError::new(StorageErrorKind::Other, "opening the storage was aborted").because(e))
    })
}

#[cfg(not(all(feature = "gcs", feature = "azure")))]
fn not_built(store: &str, feature: &str) -> StorageError {
    let message = format!("this copal was built without {store}");
    StorageError::new(StorageErrorKind::Configuration, message)
        .hint(format!("build it with the cargo feature `{feature}`"))
}

/// The time limit of a whole request, far above our own deadlines; `object_store` would give up after 30 s.
const REQUEST_LIMIT: &str = "20 minutes";
/// The time limit of connecting.
const CONNECT_LIMIT: &str = "10 seconds";

/// No retries inside `object_store`: they would hide whether a conditional write took place.
fn no_retries() -> object_store::RetryConfig {
    object_store::RetryConfig { max_retries: 0, ..object_store::RetryConfig::default() }
}

fn unusable(url: &str, error: object_store::Error) -> StorageError {
    StorageError::new(StorageErrorKind::Configuration, format!("{url} cannot be used as configured")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_local_folder_is_created_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let url = StorageUrl::Local(dir.path().join("a/b"));
        let options = StorageOptions::default();
        assert_eq!(open(&url, &options).await.unwrap_err().kind(), StorageErrorKind::NotFound);
        create(&url, &options).await.unwrap();
        open(&url, &options).await.unwrap();
        create(&url, &options).await.unwrap();
    }

    #[cfg(not(feature = "gcs"))]
    #[tokio::test]
    async fn a_store_that_is_not_built_in_names_the_feature() {
        let url: StorageUrl = "gs://bucket/x".parse().unwrap();
        let error = open(&url, &StorageOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Configuration);
        assert!(error.hint.unwrap().contains("`gcs`"));
    }

    #[tokio::test]
    async fn memory_has_names() {
        let options = StorageOptions::default();
        let url: StorageUrl = "memory:open-test".parse().unwrap();
        let path = crate::ObjectPath::parse("x").unwrap();
        open(&url, &options).await.unwrap().create(&path, "1".into()).await.unwrap();
        assert_eq!(&open(&url, &options).await.unwrap().get(&path).await.unwrap()[..], b"1");
    }
}
