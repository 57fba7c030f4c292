//! Enrolment: a box that has a one-time token gets a certificate; one that has a certificate renews it.
//!
//! ```text
//! pki (offline) ─ enroll init ─► enroll/ on the server
//!   ca.key ca.pem root.pem issued.jsonl   the enroller: makes cameras' certificates, and nothing else
//!   enroll.toml                           where boxes enrol, and what they are told
//!   tokens.json ◄─ enroll create, revoke  digests of tokens, whom they are for, and what became of them
//!   audit.jsonl                           every attempt, good or bad
//! token + certificate request ─► Desk ─► Book decides ─► Authority signs ─► Grant
//! ```
//! The folder's lock orders commands and the running server; each change is one file replaced in one step. A token is
//! spent before its certificate leaves, and the certificate is kept with it: a box whose reply was lost asks again with
//! the same key and gets the same one.

mod audit;
mod book;
mod desk;
mod error;
mod folder;
mod limits;

pub use audit::{Attempt, Line};
pub use book::{Book, Entry, State, Used, Verdict};
pub use desk::{Desk, Peer, Told};
pub use error::EnrollError;
pub use folder::{Folder, Settings};
pub use limits::Attempts;
