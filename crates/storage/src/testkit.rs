//! An S3 server in this process, for tests of this and other crates (cargo feature `testkit`).
//!
//! `s3s-fs` checks signatures and honours conditional writes for one writer at a time, not among concurrent ones.

use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{S3Options, Secret, StorageOptions, StorageUrl};

/// A server with one bucket; stops when dropped.
#[derive(Debug)]
pub struct S3Server {
    /// Its address, `http://127.0.0.1:port`.
    pub endpoint: String,
    /// The bucket that is there.
    pub bucket: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: Secret,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    task: JoinHandle<()>,
}

impl S3Server {
    /// Starts a server on a free port of the loopback address, its objects in a temporary folder.
    pub async fn start() -> std::io::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut server = Self::start_in(temporary.path()).await?;
        server._temporary = Some(temporary);
        Ok(server)
    }

    /// The same over a folder that stays, whose folders are the buckets.
    pub async fn start_in(folder: &Path) -> std::io::Result<Self> {
        let (bucket, access_key, secret) = ("backups", "copal-test", "correct horse battery staple");
        std::fs::create_dir_all(folder.join(bucket))?;
        let files = FileSystem::new(folder).map_err(|e| std::io::Error::other(format!("{e:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(access_key, secret));
        let service = service.build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    // A client that goes away is no concern of the server.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(Self {
            endpoint,
            bucket: bucket.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: Secret::new(secret),
            folder: folder.to_path_buf(),
            _temporary: None,
            task,
        })
    }

    /// The URL of a prefix in its bucket.
    pub fn url(&self, prefix: &str) -> StorageUrl {
        StorageUrl::S3 { bucket: self.bucket.clone(), prefix: prefix.to_owned() }
    }

    /// The options that reach it.
    pub fn options(&self) -> StorageOptions {
        let s3 = S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(self.access_key.clone()),
            secret_access_key: Some(self.secret_key.clone()),
            ..S3Options::default()
        };
        StorageOptions { s3, ..StorageOptions::default() }
    }

    /// The folder in which the objects of its bucket lie, to damage them behind its back.
    pub fn folder(&self) -> PathBuf {
        self.folder.join(&self.bucket)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
