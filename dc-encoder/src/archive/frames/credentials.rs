//! Keys to a bucket: from the usual variables, or from a file as the AWS command line keeps them. Never from arguments.

use std::path::{Path, PathBuf};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

use super::super::ArchiveError;
use super::super::settings::BucketSettings;

/// Ways to keys that object_store follows by itself once these are set.
const ELSEWHERE: [Key; 3] =
    [Key::WebIdentityTokenFile, Key::ContainerCredentialsRelativeUri, Key::ContainerCredentialsFullUri];

/// What a file of keys says under one profile.
#[derive(Default, PartialEq)]
struct Keys {
    id: Option<String>,
    secret: Option<String>,
    token: Option<String>,
}

/// Puts keys into `builder`, which has those of the environment already: they win, as they do everywhere.
pub(super) fn put(
    builder: AmazonS3Builder,
    settings: &BucketSettings,
    dir: &Path,
) -> Result<AmazonS3Builder, ArchiveError> {
    let has = |key: &Key| builder.get_config_value(key).is_some();
    if has(&Key::AccessKeyId) && has(&Key::SecretAccessKey) || ELSEWHERE.iter().any(has) {
        return Ok(builder);
    }
    let failed = |reason: String| ArchiveError::Store { what: "open", place: settings.url.clone(), reason };
    let Some(path) = settings.credentials.as_ref().map(|it| dir.join(it)).or_else(usual) else {
        let why = "there are no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with them as \
                   `credentials` in archive.toml";
        return Err(failed(why.to_owned()));
    };
    let text = std::fs::read_to_string(&path).map_err(ArchiveError::io("read", &path))?;
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let Keys { id: Some(id), secret: Some(secret), token } = of(&text, &profile) else {
        let why = format!(
            "{} has no aws_access_key_id and aws_secret_access_key under [{profile}]: add them, or set AWS_PROFILE",
            path.display()
        );
        return Err(failed(why));
    };
    let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    Ok(match token {
        Some(token) => builder.with_token(token),
        None => builder,
    })
}

/// Where the AWS command line looks.
fn usual() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".aws/credentials"));
    let named = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    named.or_else(|| home().filter(|path| path.exists()))
}

/// Sections in brackets, `name = value` in them, comments after `#` or `;` at a line's beginning.
fn of(text: &str, profile: &str) -> Keys {
    let (mut keys, mut within) = (Keys::default(), false);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            within = name.trim() == profile;
        } else if let (true, Some((name, value))) = (within, line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|it| !it.is_empty());
            match name.trim() {
                "aws_access_key_id" => keys.id = value,
                "aws_secret_access_key" => keys.secret = value,
                "aws_session_token" => keys.token = value,
                _ => {}
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_its_keys_and_no_others() {
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=b/c=\n\n[site]\n\
                    aws_access_key_id = C\n; aws_secret_access_key = no\naws_session_token = t\n";
        let said = |profile| {
            let Keys { id, secret, token } = of(text, profile);
            (id, secret, token)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(said("default"), (some("A"), some("b/c="), None));
        assert_eq!(said("site"), (some("C"), None, some("t")));
        assert_eq!(said("other"), (None, None, None));
    }
}
