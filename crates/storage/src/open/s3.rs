//! S3-compatible stores: options over environment over the instance's role.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, S3ConditionalPut};
use object_store::{ClientConfigKey, StaticCredentialProvider};

use super::{CONNECT_LIMIT, REQUEST_LIMIT, no_retries, unusable};
use crate::{ObjectStorage, Result, S3Options, StorageError, StorageErrorKind};

pub(super) fn open(bucket: &str, prefix: &str, url: &str, options: &S3Options) -> Result<ObjectStorage> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_LIMIT)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_LIMIT);
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(credential) = credential(options)? {
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let from_environment = |key| builder.get_config_value(&key);
    let endpoint = options.endpoint.clone();
    let endpoint = endpoint
        .or_else(|| from_environment(AmazonS3ConfigKey::S3Endpoint))
        .or_else(|| from_environment(AmazonS3ConfigKey::Endpoint));
    if let Some(path_style) = options.path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    } else if endpoint.is_none() && !bucket.contains('.') && std::env::var_os(VIRTUAL_HOSTED).is_none() {
        builder = builder.with_virtual_hosted_style_request(true);
    }
    if let Some(endpoint) = endpoint {
        let endpoint = checked_endpoint(&endpoint, (options.path_style == Some(false)).then_some(bucket))?;
        let allow_http = endpoint.starts_with("http://");
        // The key that object_store prefers, so that the configuration wins over the environment.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_allow_http(allow_http);
    }
    let store = builder.build().map_err(|e| unusable(url, e))?;
    ObjectStorage::new(Arc::new(store), prefix, url)
}

const VIRTUAL_HOSTED: &str = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST";

/// Configured keys, which are taken alone: a token in the environment belongs to the keys there.
fn credential(options: &S3Options) -> Result<Option<AwsCredential>> {
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(key), Some(secret)) => Ok(Some(AwsCredential {
            key_id: key.clone(),
            secret_key: secret.expose().to_owned(),
            token: options.session_token.as_ref().map(|t| t.expose().to_owned()),
        })),
        (None, None) => Ok(None),
        _ => {
            let message = "[repository.s3] needs access_key_id and secret_access_key together";
            Err(StorageError::new(StorageErrorKind::Configuration, message))
        }
    }
}

/// Checks an endpoint, and puts the bucket into the host's name where it belongs there. It may hold a password, so it
/// is not repeated in errors.
fn checked_endpoint(endpoint: &str, bucket_in_host: Option<&str>) -> Result<String> {
    let unusable = |message: &str| StorageError::new(StorageErrorKind::Configuration, message);
    let endpoint = endpoint.trim_end_matches('/');
    let split = endpoint.split_once("://").filter(|(scheme, _)| matches!(*scheme, "https" | "http"));
    let Some((scheme, host)) = split.filter(|(_, host)| !host.is_empty()) else {
        return Err(unusable("the endpoint of the store must begin with https:// or http://"));
    };
    if host.split('/').next().is_some_and(|h| h.contains('@')) {
        return Err(unusable("the endpoint of the store must not contain keys"));
    }
    match bucket_in_host {
        Some(bucket) if !host.starts_with(&format!("{bucket}.")) => Ok(format!("{scheme}://{bucket}.{host}")),
        _ => Ok(endpoint.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(checked_endpoint("http://localhost:9000/", None).unwrap(), "http://localhost:9000");
        assert_eq!(checked_endpoint("https://s3.example", Some("b")).unwrap(), "https://b.s3.example");
        assert_eq!(checked_endpoint("https://b.s3.example", Some("b")).unwrap(), "https://b.s3.example");
        for endpoint in ["localhost:9000", "ftp://x", "https://", "https://k:hunter2@host"] {
            let error = checked_endpoint(endpoint, None).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Configuration);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn half_a_key_is_refused_and_secrets_stay_hidden() {
        let half = S3Options { access_key_id: Some("A".into()), ..S3Options::default() };
        assert_eq!(open("b", "", "s3://b", &half).unwrap_err().kind(), StorageErrorKind::Configuration);
        let whole = S3Options { secret_access_key: Some("hunter2".into()), ..half };
        let storage = open("b", "p", "s3://b/p", &whole).unwrap();
        assert!(!format!("{storage:?}").contains("hunter2"));
    }
}
