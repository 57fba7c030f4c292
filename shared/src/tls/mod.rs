//! TLS identity: certificates, roles, and errors in plain words.
