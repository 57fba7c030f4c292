//! Operators whose certificates are revoked or run out, while they are connected and afterwards.

use std::path::Path;

use dc_encoder::operate::{Client, Desk, OperateError};
use fixtures::{ALWAYS, Clock, Leaf};
use shared::tls::system_time;

use crate::operate::Office;
use crate::registry::heads;
use crate::serve_support::soon;

const SERIAL: u8 = 77;
/// The last second of a certificate: 2030-03-17 17:46:40 UTC.
const LAST: i64 = 1_900_000_000;

/// What an operator is told who gives the first command over a connection that was opened with this certificate.
async fn publishes(office: &Office, certificate: &Path) -> Result<String, OperateError> {
    let desk = Desk::Remote(soon(Client::connect(&office.server(), certificate)).await?);
    publishes_at(office, &desk).await
}

async fn publishes_at(office: &Office, desk: &Desk) -> Result<String, OperateError> {
    desk.bring_ring(&office.keys).await?;
    let (head, _) = heads();
    soon(desk.publish(&head, &office.sign(&head))).await
}

#[tokio::test]
async fn a_revoked_operator_is_cut_off_and_publishes_no_more() {
    let office = Office::open_at(system_time());
    let revoked = office.world.pki.issue(&Leaf::operator("ann", SERIAL, ALWAYS));
    let other = office.world.pki.issue(&Leaf::operator("bob", SERIAL + 1, ALWAYS));
    let client = soon(Client::connect(&office.server(), &revoked)).await.unwrap();
    let connection = client.connection().clone();
    let desk = Desk::Remote(client);
    desk.bring_ring(&office.keys).await.unwrap();

    office.world.pki.revoke(2, &[SERIAL]);
    soon(connection.closed()).await;
    let before = office.audit();
    let cut = publishes_at(&office, &desk).await.unwrap_err().to_string();
    let again = publishes(&office, &revoked).await.unwrap_err().to_string();
    for told in [cut, again] {
        assert!(told.contains("this operator's certificate: it was revoked (serial 4d)"), "{told}");
        assert!(told.contains("`dc-encoder pki issue --operator ann`"), "{told}");
    }
    assert_eq!(office.audit(), before, "nothing was changed");
    assert_eq!(publishes(&office, &other).await.unwrap(), "", "another operator goes on");
}

#[tokio::test]
async fn an_operators_connection_ends_with_its_certificate() {
    let clock = Clock::at(LAST);
    let office = Office::open_at(clock.clone());
    let short = office.world.pki.issue(&Leaf::operator("ann", SERIAL, [ALWAYS[0], LAST]));
    let client = soon(Client::connect(&office.server(), &short)).await.unwrap();
    let connection = client.connection().clone();
    let desk = Desk::Remote(client);
    desk.bring_ring(&office.keys).await.unwrap();

    clock.set(LAST + 1);
    soon(connection.closed()).await;
    let before = office.audit();
    let cut = publishes_at(&office, &desk).await.unwrap_err().to_string();
    let date = "was valid until 2030-03-17 17:46:40 UTC, and this machine's clock says";
    assert!(cut.contains(&format!("(operator \"ann\", serial 4d) {date}")), "{cut}");
    assert!(cut.contains("`dc-encoder pki issue --operator ann`"), "{cut}");
    let again = publishes(&office, &short).await.unwrap_err().to_string();
    assert!(again.contains("2030-03-17") && again.contains("clock"), "{again}");
    assert_eq!(office.audit(), before, "nothing was changed");
}
