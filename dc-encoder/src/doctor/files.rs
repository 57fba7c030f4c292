//! Model, certificates, enroller: what the configuration names, and how to make what is missing.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use shared::report::Item;
use shared::tls::{PkiPaths, ServerTls};

use crate::enroll::Folder;
use crate::model;
use crate::serve::{Config, ServeError};

/// A certificate that ends sooner deserves a word.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) fn examine(config: &Config) -> Vec<Item> {
    let mut items = vec![weights(config.model.as_deref())];
    items.extend(certificates(config.pki.as_deref(), Timestamp::now()));
    items.extend(config.enroll.dir.as_deref().map(enroller));
    items
}

fn weights(dir: Option<&Path>) -> Item {
    let Some(dir) = dir else { return Item::fail("model", "none named", ServeError::NoModel.to_string()) };
    match model::file::load_config(dir) {
        Ok(_) if dir.join("model.safetensors").exists() => Item::ok("model", dir.display().to_string()),
        Ok(_) => Item::fail("model", format!("{} has no model.safetensors", dir.display()), how(dir)),
        Err(error) => Item::fail("model", error.to_string(), how(dir)),
    }
}

fn how(dir: &Path) -> String {
    format!(
        "`dc-encoder model init --preset seed-80m --seed 1 --out {}`, or `model import CHECKPOINT`",
        dir.display()
    )
}

/// How to get a server's certificate: where the authority is, which is not this machine, unless somebody put it here.
fn issue(dir: &Path) -> String {
    let here = dir.display();
    if dir.join("ca.key").exists() {
        return format!("`dc-encoder pki issue --dir {here} --server HOST`");
    }
    format!(
        "on the machine that has the authority (pki/ca.key): `dc-encoder pki issue --server HOST`; then copy its \
         pki/server and pki/crl.pem into {here}"
    )
}

fn certificates(dir: Option<&Path>, now: Timestamp) -> Vec<Item> {
    let Some(dir) = dir else {
        return vec![Item::fail("certificates", "none named", ServeError::NoPki.to_string())];
    };
    let tls = match ServerTls::load(&PkiPaths::in_dir(dir)) {
        Ok(tls) => tls,
        Err(error) => {
            return vec![Item::fail("certificates", error.to_string(), issue(dir))];
        }
    };
    let me = tls.identity().me();
    let words = format!("{me}, until {}", me.not_after);
    let mut items = vec![if !tls.identity().is_valid_at(now) {
        Item::fail(
            "certificates",
            format!("{words}, and it is {now:.0}"),
            format!("`timedatectl set-ntp true` if that is not the time; else {}", issue(dir)),
        )
    } else if me.not_after.duration_since(now) < EXPIRES_SOON {
        Item::warn("certificates", words, format!("before then: {}", issue(dir)))
    } else {
        Item::ok("certificates", words)
    }];
    items.extend(tls.identity().warnings().iter().map(|warning| Item::warn("certificates", warning, "")));
    if dir.join("ca.key").exists() {
        items.push(Item::warn(
            "authority",
            format!("{}: whoever has it can make certificates for everything", dir.join("ca.key").display()),
            "keep it on another machine; a server needs server/ and crl.pem alone",
        ));
    }
    items
}

fn enroller(dir: &Path) -> Item {
    match Folder::open(dir) {
        Ok(folder) => {
            Item::ok("enrolment", format!("{}, boxes come to {}", dir.display(), folder.settings.at))
        }
        Err(error) => Item::fail("enrolment", error.to_string(), ""),
    }
}

#[cfg(test)]
mod tests {
    use shared::report::Status;

    use super::*;

    #[test]
    fn what_is_missing_comes_with_the_command_that_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        for (item, command) in [
            (weights(None), "model init"),
            (weights(Some(dir.path())), "model init"),
            (certificates(None, Timestamp::now()).remove(0), "pki init"),
            (certificates(Some(dir.path()), Timestamp::now()).remove(0), "pki issue"),
            (enroller(dir.path()), "enroll init"),
        ] {
            assert!(item.status == Status::Fail && item.to_string().contains(command), "{item}");
        }
    }

    #[test]
    fn a_certificate_is_made_where_the_authority_is() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display().to_string();
        let said = || certificates(Some(dir.path()), Timestamp::now()).remove(0).remedy;
        let elsewhere = said();
        assert!(elsewhere.contains("`dc-encoder pki issue --server HOST`"), "{elsewhere}");
        assert!(elsewhere.ends_with(&format!("pki/server and pki/crl.pem into {here}")), "{elsewhere}");
        std::fs::write(dir.path().join("ca.key"), "").unwrap();
        assert_eq!(said(), format!("`dc-encoder pki issue --dir {here} --server HOST`"));
    }
}
