//! The book of tokens: who may enrol, and what became of it. Pure: `now` comes from outside.

use jiff::{SignedDuration, Timestamp};
use protocol::EnrollCode;
use serde::{Deserialize, Serialize};

/// Tokens are remembered this long after their end, so that a person sees what became of them.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A certificate is renewed in the last two thirds of its life only: sooner, nothing is gained.
const TOO_NEW: i64 = 3;

/// All tokens that are remembered, and cameras that may not renew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    /// In the order they were made.
    pub tokens: Vec<Entry>,
    /// Cameras whose certificates are not renewed any more.
    #[serde(default)]
    pub withdrawn: Vec<String>,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its digest in hexadecimal: the token itself is nowhere here.
    pub id: String,
    /// Whom it is for.
    pub camera: String,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// Somebody withdrew it.
    #[serde(default)]
    pub withdrawn: bool,
    /// What it was used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// The certificate that a token gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// When.
    pub at: Timestamp,
    /// SHA-256 of the box's public key, hexadecimal.
    pub key: String,
    /// Serial number of the certificate.
    pub serial: String,
    /// The certificate in PEM.
    pub certificate: String,
}

/// How a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It lets a box in.
    Open,
    /// It did.
    Used,
    /// Nobody used it in time.
    Expired,
    /// Somebody withdrew it.
    Withdrawn,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        })
    }
}

impl Entry {
    /// How it stands now.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self {
            Self { withdrawn: true, .. } => State::Withdrawn,
            Self { used: Some(_), .. } => State::Used,
            Self { expires, .. } if now >= *expires => State::Expired,
            _ => State::Open,
        }
    }
}

/// What to do with a token that somebody brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Make a certificate for this camera.
    Make {
        /// The camera.
        camera: String,
    },
    /// The same box asks again: its reply was lost.
    Again {
        /// The camera.
        camera: String,
        /// The certificate it was given, in PEM.
        certificate: String,
    },
    /// Nothing, and why.
    Refuse {
        /// The camera that the token was for, where it is known.
        camera: Option<String>,
        /// Why.
        code: EnrollCode,
        /// In words.
        why: String,
    },
}

impl Book {
    /// Decides about a token by its digest, and the digest of the key that would get a certificate.
    #[must_use]
    pub fn judge(&self, id: &str, key: &str, now: Timestamp) -> Verdict {
        let Some(entry) = self.tokens.iter().find(|entry| entry.id == id) else {
            let why =
                "it was never made here, or long ago; make one with `dc-encoder enroll create`".to_owned();
            return Verdict::Refuse { camera: None, code: EnrollCode::Token, why };
        };
        let camera = entry.camera.clone();
        let refuse = |code, why: String| Verdict::Refuse { camera: Some(camera.clone()), code, why };
        let until = entry.expires.strftime("%Y-%m-%d %H:%M UTC");
        match (&entry.used, entry.state(now)) {
            (_, State::Withdrawn) => {
                refuse(EnrollCode::Withdrawn, "make another with `dc-encoder enroll create`".to_owned())
            }
            (Some(used), _) if used.key != key => refuse(
                EnrollCode::Used,
                format!(
                    "that was on {}. If it was not your box, revoke its certificate (serial {}) at once",
                    used.at.strftime("%Y-%m-%d %H:%M UTC"),
                    used.serial
                ),
            ),
            // The reply may have been lost; after its time a token does nothing any more.
            (Some(used), _) if now < entry.expires => {
                Verdict::Again { camera, certificate: used.certificate.clone() }
            }
            (_, State::Open) => Verdict::Make { camera },
            _ => refuse(
                EnrollCode::Expired,
                format!("it was good until {until}; make another with `dc-encoder enroll create`"),
            ),
        }
    }

    /// Decides about a renewal.
    ///
    /// # Errors
    /// The code and the words of a refusal.
    pub fn may_renew(
        &self,
        camera: &str,
        [from, until]: [Timestamp; 2],
        now: Timestamp,
    ) -> Result<(), (EnrollCode, String)> {
        if self.withdrawn.iter().any(|name| name == camera) {
            let why = format!(
                "{camera} is not to be renewed; `dc-encoder enroll create --camera {camera}` lets it in anew"
            );
            return Err((EnrollCode::Withdrawn, why));
        }
        let third = until.duration_since(from) / i32::try_from(TOO_NEW).unwrap_or(3);
        let renewable = from.saturating_add(third).unwrap_or(until);
        if now < renewable {
            return Err((EnrollCode::Early, format!("it can be renewed from {renewable:.0} on")));
        }
        Ok(())
    }

    /// A new token. Open ones of the same camera are withdrawn: the newest is the one that counts.
    pub fn add(&mut self, entry: Entry, now: Timestamp) {
        self.tokens.retain(|old| now < old.expires.saturating_add(REMEMBERED).unwrap_or(Timestamp::MAX));
        self.withdrawn.retain(|camera| *camera != entry.camera);
        self.withdraw_tokens(&entry.camera, now);
        self.tokens.push(entry);
    }

    /// Withdraws open tokens of a camera, and refuses to renew its certificates. Returns how many tokens it were.
    pub fn withdraw(&mut self, camera: &str, now: Timestamp) -> usize {
        if !self.withdrawn.iter().any(|name| name == camera) {
            self.withdrawn.push(camera.to_owned());
        }
        self.withdraw_tokens(camera, now)
    }

    fn withdraw_tokens(&mut self, camera: &str, now: Timestamp) -> usize {
        let open = self.tokens.iter_mut().filter(|t| t.camera == camera && t.state(now) == State::Open);
        open.map(|token| token.withdrawn = true).count()
    }

    /// Notes what a token was used for.
    pub fn spend(&mut self, id: &str, used: Used) {
        if let Some(entry) = self.tokens.iter_mut().find(|entry| entry.id == id) {
            entry.used = Some(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn entry(id: &str) -> Entry {
        let (created, expires) = (at(100), at(200));
        Entry { id: id.into(), camera: "plaza-1".into(), created, expires, withdrawn: false, used: None }
    }

    fn book() -> Book {
        Book { tokens: vec![entry("a")], withdrawn: vec![] }
    }

    fn code(verdict: Verdict) -> EnrollCode {
        match verdict {
            Verdict::Refuse { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_lets_one_key_in_until_it_expires() {
        let mut book = book();
        let camera = String::from("plaza-1");
        assert_eq!(book.judge("a", "key", at(199)), Verdict::Make { camera: camera.clone() });
        assert_eq!(code(book.judge("a", "key", at(200))), EnrollCode::Expired);
        assert_eq!(code(book.judge("b", "key", at(150))), EnrollCode::Token);
        let certificate = String::from("pem");
        let used =
            Used { at: at(150), key: "key".into(), serial: "07".into(), certificate: certificate.clone() };
        book.spend("a", used);
        assert_eq!(book.judge("a", "key", at(199)), Verdict::Again { camera, certificate });
        assert_eq!(code(book.judge("a", "other", at(199))), EnrollCode::Used);
        assert_eq!(code(book.judge("a", "other", at(900))), EnrollCode::Used);
        assert_eq!(code(book.judge("a", "key", at(200))), EnrollCode::Expired);
    }

    #[test]
    fn a_newer_token_voids_the_older_one() {
        let mut book = book();
        book.add(entry("b"), at(150));
        assert_eq!(code(book.judge("a", "key", at(150))), EnrollCode::Withdrawn);
        assert!(matches!(book.judge("b", "key", at(150)), Verdict::Make { .. }));
        assert_eq!(book.withdraw("plaza-1", at(150)), 1);
        assert_eq!(code(book.judge("b", "key", at(150))), EnrollCode::Withdrawn);
    }

    #[test]
    fn old_tokens_are_forgotten() {
        let mut book = book();
        book.add(entry("b"), at(200 + 30 * 86_400));
        assert_eq!(book.tokens.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn renewal_has_its_time_and_can_be_withdrawn() {
        let mut book = book();
        let life = [at(0), at(900)];
        assert_eq!(book.may_renew("plaza-1", life, at(299)).unwrap_err().0, EnrollCode::Early);
        assert_eq!(book.may_renew("plaza-1", life, at(300)), Ok(()));
        book.withdraw("plaza-1", at(300));
        assert_eq!(book.may_renew("plaza-1", life, at(300)).unwrap_err().0, EnrollCode::Withdrawn);
        assert_eq!(book.may_renew("plaza-2", life, at(300)), Ok(()));
        book.add(entry("b"), at(300));
        assert_eq!(book.may_renew("plaza-1", life, at(300)), Ok(()));
    }
}
