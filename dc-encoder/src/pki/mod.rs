//! Certificates: authority, issue, revoke.
