//! Frames as objects of a bucket that speaks S3.
//!
//! An object is whole and durable when its PUT is answered, so nothing is written beside and renamed. What cannot be known
//! is what became of a request that was not answered: the intent stays until somebody settled it.

use std::fmt;
use std::future::Future;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ListResult, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::ArchiveError;
use super::super::settings::BucketSettings;
use super::{FOLDER, credentials};
use crate::remote::{in_full, is_loopback};

/// Requests under way at one time: a round trip each, and the store is far.
const AT_ONCE: usize = 16;

/// Until a connection is there.
const CONNECT: Duration = Duration::from_secs(5);

/// For one request, with its frame.
const REQUEST: Duration = Duration::from_secs(30);

/// A store that fails is asked again for so long; whoever adds frames waits meanwhile.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Tries beyond the first.
const RETRIES: usize = 3;

/// Where objects go, as people write it: `s3://BUCKET/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Place {
    pub(in super::super) bucket: String,
    /// Without slashes at its ends; may be empty.
    pub(in super::super) prefix: String,
}

impl Place {
    /// Reads an address.
    pub(in super::super) fn parse(url: &str) -> Result<Self, ArchiveError> {
        let parse = || {
            let (bucket, prefix) = url.strip_prefix("s3://")?.split_once('/').unwrap_or((&url[5..], ""));
            let prefix = prefix.trim_matches('/');
            let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
            let good = (3..=63).contains(&bucket.len()) && bucket.chars().all(name);
            let whole = prefix.is_empty() || prefix.split('/').all(|it| !matches!(it, "" | "." | ".."));
            (good && whole && prefix.chars().all(plain) && prefix.len() <= 500)
                .then(|| Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        };
        parse().ok_or_else(|| ArchiveError::BucketUrl(shared::telemetry::redact_url(url)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// A bucket as a store of frames.
pub(in super::super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    place: Place,
    /// Who is asked, for messages.
    endpoint: String,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

/// Never its keys.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({} at {})", self.place, self.endpoint)
    }
}

/// Waits for nobody: it may be dropped where waiting is not allowed.
impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    /// With the keys of the environment or of the file that the settings name. Asks nothing yet.
    pub(super) fn open(settings: &BucketSettings, dir: &FsPath) -> Result<Self, ArchiveError> {
        use AmazonS3ConfigKey as Key;
        let place = Place::parse(&settings.url)?;
        let failed = |reason: String| ArchiveError::Store { what: "open", place: place.to_string(), reason };
        // TLS finds its primitives here; somebody else may have said so before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&place.bucket);
        if let Some(endpoint) = &settings.endpoint {
            // The S3 variable would win over a general endpoint.
            builder = builder.with_config(Key::S3Endpoint, endpoint).with_endpoint(endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        let region = builder.get_config_value(&Key::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let asked = builder.get_config_value(&Key::S3Endpoint).or(builder.get_config_value(&Key::Endpoint));
        let endpoint = asked.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        builder = credentials::put(builder, settings, dir)?;
        let mut client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST);
        if endpoint.starts_with("http://") {
            let here = endpoint.parse().is_ok_and(|url| is_loopback(&url));
            if !here && std::env::var("AWS_ALLOW_HTTP").as_deref() != Ok("true") {
                let why = format!(
                    "{endpoint} would carry pictures that everybody on the way can read: use https, or set \
                     AWS_ALLOW_HTTP=true"
                );
                return Err(failed(why));
            }
            client = client.with_allow_http(true);
        }
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_FOR };
        let store = builder.with_client_options(client).with_retry(retry).build();
        let store = store.map_err(|error| failed(error.to_string()))?;
        Self::of(Arc::new(store), place, endpoint)
    }

    /// With a store that is open.
    pub(in super::super) fn of(
        store: Arc<dyn ObjectStore>,
        place: Place,
        endpoint: String,
    ) -> Result<Self, ArchiveError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("bucket").enable_all().build();
        let runtime = runtime.map_err(|error| ArchiveError::Store {
            what: "start a thread for",
            place: place.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self { store, place, endpoint, runtime: Some(runtime) })
    }

    pub(super) fn put(&self, files: &[(String, Bytes)]) -> Result<(), ArchiveError> {
        let files: Vec<_> = files.iter().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
        self.each("write", files, |store, at, bytes: Bytes| async move {
            store.put(&at, bytes.into()).await.map(|_| ())
        })
    }

    pub(super) fn delete(&self, paths: &[&str]) -> Result<(), ArchiveError> {
        let paths: Vec<_> = paths.iter().map(|path| ((*path).to_owned(), ())).collect();
        self.each("delete", paths, |store, at, ()| async move {
            match store.delete(&at).await {
                Err(Error::NotFound { source, .. }) if !is_no_bucket(&source.to_string()) => Ok(()),
                done => done,
            }
        })
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let (store, at) = (Arc::clone(&self.store), self.object(path));
        let got = self.wait(async move { store.get(&at).await?.bytes().await })?;
        match got {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(Error::NotFound { source, .. }) if !is_no_bucket(&source.to_string()) => Ok(None),
            Err(error) => Err(self.failed("read", path, &error)),
        }
    }

    pub(super) fn length(&self, path: &str) -> Result<Option<u64>, ArchiveError> {
        let (store, at) = (Arc::clone(&self.store), self.object(path));
        match self.wait(async move { store.head(&at).await })? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path, &error)),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<(String, u64)>, ArchiveError> {
        let (store, root) = (Arc::clone(&self.store), self.object(FOLDER));
        let listed = self.wait(async move {
            // Camera by camera and day by day, as the names are made.
            let (mut waiting, mut found) = (vec![root], Vec::new());
            while let Some(at) = waiting.pop() {
                let ListResult { common_prefixes, objects, .. } =
                    store.list_with_delimiter(Some(&at)).await?;
                waiting.extend(common_prefixes);
                found.extend(objects.into_iter().map(|it| (it.location, it.size)));
            }
            Ok::<_, Error>(found)
        })?;
        let listed: Vec<(Path, u64)> = listed.map_err(|error| self.failed("list", FOLDER, &error))?;
        let skip = if self.place.prefix.is_empty() { 0 } else { self.place.prefix.len() + 1 };
        let below = |(path, size): (Path, u64)| (path.to_string()[skip..].to_owned(), size);
        Ok(listed.into_iter().map(below).collect())
    }

    /// Writes, reads, lists and deletes one object, so that a bucket that cannot be used is refused before there are frames.
    pub(in super::super) fn probe(&self) -> Result<(), ArchiveError> {
        let path = format!("{FOLDER}/.probe-{:016x}", rand::random::<u64>());
        let bytes = Bytes::from_static(b"dc-encoder archive init\n");
        self.put(&[(path.clone(), bytes.clone())])?;
        let read = self.get(&path)?;
        self.list()?;
        self.delete(&[&path])?;
        match read.as_deref() == Some(bytes.as_ref()) {
            true => Ok(()),
            false => Err(ArchiveError::Store {
                what: "use",
                place: self.place_of(&path),
                reason: "what was written there does not come back: is this a store of objects?".to_owned(),
            }),
        }
    }

    pub(super) fn place_of(&self, path: &str) -> String {
        format!("s3://{}/{}", self.place.bucket, self.object(path))
    }

    fn object(&self, path: &str) -> Path {
        // Both were checked: they hold nothing that a name in a bucket may not.
        Path::from(format!("{}/{path}", self.place.prefix))
    }

    /// Does something with each, many at one time; waits for all, so that nothing is under way when it returns.
    fn each<T, F>(
        &self,
        what: &'static str,
        items: Vec<(String, T)>,
        work: impl Fn(Arc<dyn ObjectStore>, Path, T) -> F + Send + 'static,
    ) -> Result<(), ArchiveError>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        let objects: Vec<_> =
            items.into_iter().map(|(path, item)| (self.object(&path), path, item)).collect();
        let failed = self.wait(async move {
            let (mut tasks, mut failed) = (JoinSet::new(), None);
            for (object, path, item) in objects {
                if tasks.len() >= AT_ONCE {
                    failed = failed.or(join(&mut tasks).await);
                }
                // The first failure is the answer; what has not begun need not.
                if failed.is_some() {
                    break;
                }
                let task = work(Arc::clone(&store), object, item);
                tasks.spawn(async move { task.await.map_err(|error| (path, error)) });
            }
            while !tasks.is_empty() {
                failed = failed.or(join(&mut tasks).await);
            }
            failed
        })?;
        failed.map_or(Ok(()), |(path, error)| Err(self.failed(what, &path, &error)))
    }

    /// Runs `work` beside and waits for it here, which works wherever the caller runs.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                let _ = sender.send(work.await);
            });
        }
        receiver.recv().map_err(|_| ArchiveError::Store {
            what: "use",
            place: self.place.to_string(),
            reason: "its client ended in a panic; please report this".to_owned(),
        })
    }

    /// What went wrong, and what helps.
    fn failed(&self, what: &'static str, path: &str, error: &Error) -> ArchiveError {
        let (place, Self { endpoint, place: Place { bucket, .. }, .. }) = (self.place_of(path), self);
        let said = brief(error);
        let missing = matches!(error, Error::NotFound { .. });
        let denied = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
        let reason = if missing || is_no_bucket(&said) {
            format!(
                "there is no bucket {bucket} at {endpoint}: make it, or name another as `url` in archive.toml"
            )
        } else if denied || is_denial(&said) {
            format!(
                "{endpoint} denies it ({said}): are the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in \
                 `credentials`, right, and may they list, get, put and delete there?"
            )
        } else {
            format!(
                "{endpoint} does not do it ({said}): is it up, and is `endpoint` in archive.toml right? No frame was lost"
            )
        };
        ArchiveError::Store { what, place, reason }
    }
}

async fn join(tasks: &mut JoinSet<Result<(), (String, Error)>>) -> Option<(String, Error)> {
    match tasks.join_next().await? {
        Ok(done) => done.err(),
        Err(source) => Some((FOLDER.to_owned(), Error::JoinError { source })),
    }
}

fn is_no_bucket(said: &str) -> bool {
    said.contains("NoSuchBucket")
}

/// What S3 answers with 403, which `object_store` tells apart for single objects alone.
fn is_denial(said: &str) -> bool {
    ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"].iter().any(|code| said.contains(code))
}

/// The last of an error's causes that says something; an XML answer by its code and message.
fn brief(error: &Error) -> String {
    /// Longer answers are a page of somebody's.
    const MOST: usize = 300;
    let said = in_full(error);
    let tag = |name: &str| {
        let (_, rest) = said.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text.to_owned())
    };
    let said = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => said,
    };
    shared::telemetry::redact_text(&said.split_whitespace().collect::<Vec<_>>().join(" "))
        .chars()
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_or_explained() {
        for (url, bucket, prefix) in [
            ("s3://frames", "frames", ""),
            ("s3://frames/", "frames", ""),
            ("s3://fra.mes-1/site/a_b/", "fra.mes-1", "site/a_b"),
        ] {
            let place = Place::parse(url).unwrap();
            assert_eq!((place.bucket.as_str(), place.prefix.as_str()), (bucket, prefix), "{url}");
        }
        for url in [
            "frames",
            "s3://",
            "s3://a/b",
            "s3://Frames/x",
            "https://h/b",
            "s3://frames/a//b",
            "s3://frames/../x",
            "s3://frames/a b",
        ] {
            let error = Place::parse(url).unwrap_err().to_string();
            assert!(error.contains("write s3://BUCKET/PREFIX"), "{url}: {error}");
        }
    }
}
