//! Google Cloud Storage, configured by `GOOGLE_*` or the instance's service account.

use std::sync::Arc;

use object_store::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::{CONNECT_LIMIT, REQUEST_LIMIT, no_retries, unusable};
use crate::remote::VersionForm;
use crate::{ObjectStorage, Result};

pub(super) fn open(bucket: &str, prefix: &str, url: &str) -> Result<ObjectStorage> {
    let store = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), REQUEST_LIMIT)
        .with_config(GoogleConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_LIMIT)
        .build()
        .map_err(|e| unusable(url, e))?;
    ObjectStorage::with_form(Arc::new(store), prefix, url.to_owned(), VersionForm::Generation)
}
