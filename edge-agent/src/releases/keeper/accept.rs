//! What the link brings: a connection, a key ring, an assignment.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Wanted;

use super::{Keeper, blocking};
use crate::releases::plan::{self, Refusal};
use crate::releases::state::Until;
use crate::releases::store::StoreError;
use crate::releases::vet::Fault;
use crate::uplink::session::Session;

const NO_ROOT: &str =
    "pushed heads are refused: there is no root key here that says who may; set release_root";

impl Keeper {
    pub(super) fn up(&mut self, session: Session) {
        self.session = Some(session);
        self.connections += 1;
        plan::forgive(&mut self.state, &BTreeMap::new(), &[Until::Connection, Until::Ring]);
        self.report_all();
    }

    /// A newer ring counts once it is on the disk: a restart must not bring the older one back.
    pub(super) async fn ring(&mut self, document: Vec<u8>) {
        let Some(trust) = &self.gate.trust else { return self.complain("", NO_ROOT) };
        let mut newer = trust.clone();
        match newer.update(&document) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => return self.complain("", &error.to_string()),
        }
        let (store, version) = (Arc::clone(&self.store), newer.ring().version);
        let disk = |error: StoreError| Fault::new(error.to_string(), Until::Connection);
        match blocking(move || store.keep_ring(&document).map_err(disk)).await {
            Ok(()) => {
                tracing::info!(version, "a newer key ring");
                self.gate.trust = Some(newer);
                plan::forgive(&mut self.state, &BTreeMap::new(), &[Until::Ring]);
            }
            Err(fault) => self.complain("", &fault.words),
        }
    }

    pub(super) fn wanted(&mut self, wanted: &Wanted) {
        let Some(trust) = &self.gate.trust else { return self.complain("", NO_ROOT) };
        let Err(refusal) = plan::accept(&mut self.state, trust, &self.camera, wanted) else { return };
        let head = match &refusal {
            Refusal::Of { channel, .. } | Refusal::TooMany { channel } => channel.head().to_owned(),
            Refusal::Unverified(_) => String::new(),
        };
        self.complain(&head, &refusal.to_string());
    }
}
