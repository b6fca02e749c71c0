//! The S3 storage against a real server in this process.

use std::sync::Arc;

use copal_storage::testkit::S3Server;
use copal_storage::{S3Options, StorageErrorKind, StorageOptions, StorageUrl, open};

mod suite;

use suite::{Server, path, run};

#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    let server = S3Server::start().await.unwrap();
    for prefix in ["", "some/prefix"] {
        let storage = open(&server.url(prefix), &server.options()).await.unwrap();
        run(storage, Server::S3sFs).await;
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_clearly() {
    let server = S3Server::start().await.unwrap();
    let mut options = server.options();
    options.s3.secret_access_key = Some("hunter2".into());
    let storage = open(&server.url("p"), &options).await.unwrap();
    let errors = [
        storage.get(&path("x")).await.unwrap_err(),
        storage.create(&path("x"), "1".into()).await.unwrap_err(),
        storage.list(&path("x")).await.unwrap_err(),
        storage.list_folders(None).await.unwrap_err(),
        storage.delete(&path("x")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StorageErrorKind::PermissionDenied, "{error:?}");
        assert!(error.to_string().contains("the secret key is wrong"), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("AWS_SECRET_ACCESS_KEY"));
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn an_unknown_access_key_is_refused_clearly() {
    let server = S3Server::start().await.unwrap();
    let mut options = server.options();
    options.s3.access_key_id = Some("nobody".into());
    let storage = open(&server.url("p"), &options).await.unwrap();
    let error = storage.list(&path("x")).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::PermissionDenied, "{error:?}");
    assert!(error.to_string().contains("refused the keys"), "{error:?}");
}

#[tokio::test]
async fn a_missing_bucket_is_said_so() {
    let server = S3Server::start().await.unwrap();
    let url: StorageUrl = "s3://no-such-bucket/p".parse().unwrap();
    let storage = open(&url, &server.options()).await.unwrap();
    let errors = [storage.list(&path("x")).await.unwrap_err(), storage.list_folders(None).await.unwrap_err()];
    for error in errors {
        assert!(error.is_storage_gone(), "{error:?}");
        assert!(error.to_string().contains("s3://no-such-bucket/p does not exist"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_transient() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = S3Server::start().await.unwrap();
    let mut options = server.options();
    options.s3.endpoint = Some(format!("http://{free}"));
    options.retry.max_attempts = 2;
    let storage = open(&server.url(""), &options).await.unwrap();
    let error = storage.get(&path("x")).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Transient, "{error:?}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn plain_http_needs_an_endpoint_that_says_so() {
    let options = StorageOptions {
        s3: S3Options { endpoint: Some("127.0.0.1:9000".into()), ..S3Options::default() },
        ..StorageOptions::default()
    };
    let url: StorageUrl = "s3://bucket/x".parse().unwrap();
    assert_eq!(open(&url, &options).await.unwrap_err().kind(), StorageErrorKind::Configuration);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_run_side_by_side() {
    let server = S3Server::start().await.unwrap();
    let storage = open(&server.url("p"), &server.options()).await.unwrap();
    let uploads = (0..8).map(|n| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move { storage.create(&path(&format!("packs/{n}")), vec![n; 2 << 20].into()).await })
    });
    for upload in futures::future::join_all(uploads).await {
        upload.unwrap().unwrap();
    }
    let found = storage.list(&path("packs")).await.unwrap();
    assert_eq!(found.len(), 8);
    assert!(found.iter().all(|info| info.size == 2 << 20));
}
/// Opens a bucket without any keys; run by the test below as a process of its own, with an environment of its own.
#[tokio::test]
#[ignore = "is run by another test as a process of its own"]
async fn keyless_process() {
    // Without this the real metadata service of the machine would be asked for its role's keys.
    assert!(std::env::var("AWS_METADATA_ENDPOINT").unwrap().starts_with("http://127.0.0.1:"));
    let url: StorageUrl = "s3://bucket/x".parse().unwrap();
    let storage = open(&url, &StorageOptions::default()).await.unwrap();
    let error = storage.get(&path("x")).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::PermissionDenied, "{error:?}");
    assert!(error.to_string().contains("no keys for s3://bucket/x were found"), "{error}");
    assert!(error.hint.unwrap().contains("AWS_ACCESS_KEY_ID"));
}

#[tokio::test]
async fn missing_keys_are_said_so() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "keyless_process", "--ignored"])
        .env_clear()
        .env("AWS_METADATA_ENDPOINT", format!("http://{closed}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
