//! Logs to standard error, secrets redacted.
