//! Azure Blob Storage, configured by `AZURE_*` or the instance's identity.

use std::sync::Arc;

use object_store::ClientConfigKey;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::{CONNECT_LIMIT, REQUEST_LIMIT, no_retries, unusable};
use crate::{ObjectStorage, Result};

pub(super) fn open(container: &str, prefix: &str, url: &str) -> Result<ObjectStorage> {
    let store = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(no_retries())
        .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), REQUEST_LIMIT)
        .with_config(AzureConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_LIMIT)
        .build()
        .map_err(|e| unusable(url, e))?;
    ObjectStorage::new(Arc::new(store), prefix, url)
}
