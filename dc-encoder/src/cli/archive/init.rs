//! A new archive, and where its frames are to be.

use std::path::PathBuf;

use super::At;
use crate::archive::{Archive, BucketSettings};

/// Arguments of `archive init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    #[command(flatten)]
    at: At,
    /// Keep the frames in a bucket that speaks S3 [default: in the archive's folder, where the index always is]
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    frames: Option<String>,
    /// Address of a store that is not Amazon's [default: AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL", requires = "frames")]
    endpoint: Option<String>,
    /// Its region [default: AWS_REGION]
    #[arg(long, value_name = "REGION", requires = "frames")]
    region: Option<String>,
    /// A file of keys as the AWS command line keeps them [default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else
    /// AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials]
    #[arg(long, value_name = "FILE", requires = "frames")]
    credentials: Option<PathBuf>,
}

pub(super) fn init(args: InitArgs) -> anyhow::Result<()> {
    let InitArgs { at, frames, endpoint, region, credentials } = args;
    // The settings lie in the archive's folder, and so a relative path in them would start there.
    let credentials = credentials.map(std::path::absolute).transpose()?;
    let bucket = frames.map(|url| BucketSettings { url, endpoint, region, credentials });
    let archive = Archive::init(&at.archive, bucket.as_ref())?;
    println!(
        "{}: an archive without frames; they will be in {}; archive.toml there says how long they may stay",
        archive.dir().display(),
        archive.frames_at()
    );
    Ok(())
}
