//! The certificate authority: who may connect.
//!
//! ```text
//! pki/                                  where the operator works; need not be on a server
//!   ca.key                              makes certificates: keep it offline, back it up
//!   ca.pem  crl.pem  issued.jsonl
//!   server/{ca,cert,key}.pem ─► encoder server, together with crl.pem ─► `serve --pki`
//!   cameras/NAME/{ca,cert,key}.pem ─► that camera box
//!   operators/NAME/{ca,cert,key}.pem
//! enroll/{ca,root}.pem ca.key issued.jsonl …  an enroller on a server: makes certificates for cameras alone
//! ```
//! Certificates carry role and camera as SAN URIs that [`shared::tls`] checks. Keys are ECDSA P-256. `revoke`
//! writes a new `crl.pem` with the next number; a serving encoder reads it within a second.
//!
//! Every certificate is valid from [`BACKDATE`] before it was made: the box it goes to may be some minutes
//! behind, and a camera that cannot connect on its first day helps nobody.

mod authority;
pub(crate) mod delegate;
mod error;
pub(crate) mod files;
mod issue;
mod record;
mod revoke;

use std::time::Duration;

pub use authority::Authority;
pub use error::PkiError;
pub use issue::{Issued, Request, Subject};
pub use record::Record;
pub use revoke::{Listed, Selector, State};

/// How far before its making a certificate becomes valid.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// Lifetime of the authority: replacing it means visiting every box.
pub const CA_DAYS: u32 = 3650;

/// Default lifetime of a camera's certificate: a year between visits.
pub const CAMERA_DAYS: u32 = 365;

/// Default lifetime of a server's certificate. Agents read no revocation list, so for a server this is what
/// limits a stolen key.
pub const SERVER_DAYS: u32 = 365;

/// Default lifetime of an enroller: it stands on a server, and whoever steals it makes cameras until it is revoked.
pub const ENROLLER_DAYS: u32 = 730;

/// Default lifetime of a certificate from enrolment: it renews itself when two thirds of that are over.
pub const ENROLLED_DAYS: u32 = 90;

/// Default lifetime of an operator's certificate: people change jobs and laptops.
pub const OPERATOR_DAYS: u32 = 90;
