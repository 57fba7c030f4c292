//! The two pages, docs/encoder-server.md and docs/camera-box.md, typed into a Debian with systemd; then a watchdog, an
//! upgrade and a purge.

use tests::{answers::Line, goals::goal};

use super::{
    lifetime::{AGENT, give_it_time},
    machine::{Architecture, Machine},
    world::{Place, World, package},
};

/// The server's name in the page.
const SERVER: &str = "encoder.example.net";
/// Where the authority is: a machine of the owner's in the page, a folder here.
const AUTHORITY: &str = "cd /srv/authority";

/// What the page on the server says, up to "a model, and go".
fn install_the_server(machine: &mut Machine) {
    machine.ok("cd /world && sudo apt-get install -y ./dc-encoder.deb");
    let unready = machine.run("sudo -u dc-encoder dc-encoder doctor --config /etc/dc-encoder/encoder.toml");
    assert!(unready.status != 0 && unready.text.contains("FAIL"), "{}", unready.text);
    machine.ok(&format!("echo 127.0.0.1 {SERVER} >>/etc/hosts && mkdir /srv/authority"));
    for command in [
        "pki init".to_owned(),
        format!("pki issue --server {SERVER}"),
        format!("enroll init --server {SERVER}"),
        "keys init".to_owned(),
    ] {
        machine.ok(&format!("{AUTHORITY} && dc-encoder {command}"));
    }
    // scp, on one machine.
    machine
        .ok(&format!("{AUTHORITY} && cp -r pki/server pki/crl.pem keys/root.pub keys/key-ring enroll /home"));
    for command in [
        "sudo mkdir -p /etc/dc-encoder/pki",
        "sudo mv server crl.pem /etc/dc-encoder/pki/ && sudo mv root.pub key-ring /etc/dc-encoder/",
        "sudo mv enroll /var/lib/dc-encoder/",
        "sudo chown -R root:dc-encoder /etc/dc-encoder && sudo chmod 640 /etc/dc-encoder/pki/server/key.pem",
        "sudo chown -R dc-encoder: /var/lib/dc-encoder/enroll",
        r"sudo sed -i -E 's/^#(registry|release_root|\[enroll]|dir|listen)/\1/' /etc/dc-encoder/encoder.toml",
        // The page makes a model of random weights; this one has learnt something.
        "cp -r /world/model /var/lib/dc-encoder/model && chown -R dc-encoder: /var/lib/dc-encoder/model",
    ] {
        machine.ok(&format!("cd /home && {command}"));
    }
    let ready = machine.run("sudo -u dc-encoder dc-encoder doctor --config /etc/dc-encoder/encoder.toml");
    assert!(!ready.text.contains("FAIL"), "{}", ready.text);
    machine.ok("sudo systemctl start dc-encoder");
    machine.until("systemctl is-active dc-encoder", "active");
}

/// What the page on the box says, and its goal.
const ON_THE_BOX: [&str; 2] = ["sudo apt-get install -y ./edge-agent.deb", "sudo edge-agent enroll"];
const MOST_COMMANDS: usize = 2;

fn install_the_box(machine: &mut Machine) {
    let [install, enroll] = ON_THE_BOX;
    machine.ok(&format!("cd /world && {install}"));
    assert_eq!(machine.run("systemctl is-active edge-agent.path").text, "active\n");
    assert_eq!(machine.run("systemctl is-active edge-agent").text, "inactive\n");
    let made = machine
        .ok("sudo -u dc-encoder dc-encoder enroll create --dir /var/lib/dc-encoder/enroll --camera plaza-1");
    let token = made.lines().find(|line| line.starts_with("FTH1")).expect(&made);
    machine.ok(&format!("echo {token} | {enroll}"));
    // The service starts by itself.
    machine.until("systemctl is-active edge-agent", "active");
    machine.until("journalctl -u edge-agent --no-pager", "connected");
    let user = machine.ok("stat -c %U /proc/$(systemctl show -p MainPID --value edge-agent)");
    assert_eq!(user, "edge-agent\n");
    give_it_time(machine, AGENT);
    machine.ok("sudo systemctl restart edge-agent");
    machine.ok("(journalctl -fu edge-agent -o cat >/run/port-answers 2>/dev/null &)");
}

/// Heads, where the authority is.
fn publish(machine: &mut Machine) {
    machine.ok(&format!("{AUTHORITY} && cp /world/people-count.safetensors ."));
    for command in [
        "pki issue --operator ann".to_owned(),
        "head sign people-count.safetensors".to_owned(),
        format!(
            "head publish people-count.safetensors --channel people-count@stable \
             --server {SERVER}:4433 --cert pki/operators/ann"
        ),
    ] {
        machine.ok(&format!("{AUTHORITY} && dc-encoder {command}"));
    }
    machine.answer("answer of the head that was published", Line::is_answer);
    let typed = ON_THE_BOX.len();
    let what = "commands on a bare Debian box up to its first answer, amd64";
    goal(what, &format!("<={MOST_COMMANDS}"), &typed.to_string(), typed <= MOST_COMMANDS);
}

/// What stops answering systemd is ended and started again.
fn watchdog(machine: &mut Machine) {
    machine.ok("kill -STOP $(systemctl show -p MainPID --value edge-agent)");
    machine.until("systemctl show -p NRestarts --value edge-agent", "1");
    machine.catch_up();
    machine.answer("answer after the watchdog", Line::is_answer);
}

/// A newer package keeps what is this box's own.
fn upgrade(machine: &mut Machine) {
    machine.ok("echo '#FTH_LOG=debug' >>/etc/default/edge-agent");
    let own = format!("sha256sum {AGENT} /etc/default/edge-agent /var/lib/edge-agent/identity/*.pem");
    let before = machine.ok(&own);
    let heads = machine.ok("find /var/lib/edge-agent/heads -type f | sort");
    assert!(!heads.is_empty());
    machine.ok("dpkg-deb -R /world/edge-agent.deb /tmp/newer && sed -i 's/^Version: .*/Version: 99.0/' /tmp/newer/DEBIAN/control");
    machine.ok("dpkg-deb --root-owner-group -Znone -b /tmp/newer /tmp/newer.deb && rm -r /tmp/newer");
    let old = machine.ok("systemctl show -p MainPID --value edge-agent");
    machine.ok("sudo apt-get install -y /tmp/newer.deb");
    machine.until("dpkg -s edge-agent", "Version: 99.0");
    machine.until("systemctl is-active edge-agent", "active");
    assert_ne!(machine.ok("systemctl show -p MainPID --value edge-agent"), old, "it was restarted");
    assert_eq!(machine.ok(&own), before);
    assert_eq!(machine.ok("find /var/lib/edge-agent/heads -type f | sort"), heads);
    machine.catch_up();
    machine.answer("answer after the upgrade", Line::is_answer);
}

/// Removing leaves what is the owner's; purging leaves nothing.
fn purge(machine: &mut Machine, program: &str) {
    machine.ok(&format!("sudo apt-get remove -y {program}"));
    machine
        .ok(&format!("test -d /var/lib/{program} && test -d /etc/{program} && ! test -e /usr/bin/{program}"));
    machine.ok(&format!("sudo apt-get purge -y {program}"));
    let left = machine.ok(&format!("find /etc /usr /lib /var /home -name '*{program}*'"));
    assert_eq!(left, "", "left behind");
    assert_ne!(machine.run(&format!("getent passwd {program}")).status, 0, "the user is left behind");
}

#[test]
#[ignore = "boots virtual machines: make test-boxes"]
fn the_pages_are_true_on_a_debian_with_systemd() {
    let world = World::new(Architecture::X86_64, "systemd.disk", Place::Nowhere);
    for program in ["edge-agent", "dc-encoder"] {
        world.add(&format!("{program}.deb"), &package(program));
    }
    world.add_unsigned_head("people-count.safetensors");
    let machine = &mut world.first_boot();
    machine.step("install the server");
    install_the_server(machine);
    machine.step("install the box");
    install_the_box(machine);
    machine.step("publish");
    publish(machine);
    machine.step("watchdog");
    watchdog(machine);
    machine.step("upgrade");
    upgrade(machine);
    machine.step("purge");
    purge(machine, "edge-agent");
    machine.step("purge");
    purge(machine, "dc-encoder");
}
