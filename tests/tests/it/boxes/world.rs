//! What a test of a virtual box has beside the box: an authority, a signed pair of heads, an encoder in the box or here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tests::{
    ports, process,
    setup::{Options, Server, demo_model, prepare},
};

use super::machine::{Architecture, Hardware, Machine};
use crate::swap::{signed_head, train_head};

/// Of the channel that the heads go through.
pub const CHANNEL: &str = "people-count@stable";
/// The host as qemu's user network shows it to the box.
const HOST: &str = "10.0.2.2";
/// Names of the server in its certificate, in the box and outside.
const NAMES: &str = "localhost,127.0.0.1,10.0.2.2";

/// Units of the heads' answers: another unit, another release. Two, and one for each power cut.
const UNITS: [&str; 6] = ["people", "persons", "heads", "walkers", "visitors", "guests"];

/// A head file, relative to the world's folder, and its release.
#[derive(Debug, Clone)]
pub struct Release {
    pub file: String,
    pub release: String,
}

/// A folder that is `/world` in the box, and what runs it.
pub struct World {
    dir: TempDir,
    pub hardware: Hardware,
    /// Each to be published once, in this order: one that was replaced does not come back by publishing.
    pub releases: [Release; UNITS.len()],
    place: Place,
    /// The encoder, if it is [`Place::Here`].
    here: Option<Server>,
    /// Where the encoder takes frames and lets boxes in.
    listen: [String; 2],
}

/// Where the encoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the box, started at every power-on.
    InBox,
    /// On this machine, the same one all the time.
    Here,
    /// The test installs it.
    Nowhere,
}

impl World {
    /// Prepares everything, and starts an encoder that is [`Place::Here`].
    pub fn new(architecture: Architecture, root: &str, place: Place) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = dir.path().join("world");
        fs::create_dir(&world).unwrap();
        let prepared =
            prepare(dir.path(), &Options { model: demo_model(), training_frames: 40, live_frames: 4 })
                .unwrap();
        let pki = prepared.pki.display().to_string();
        let (host, ports) = match place {
            Place::Here => (HOST, [ports::lasting(), ports::lasting()]),
            Place::InBox | Place::Nowhere => ("127.0.0.1", [4433, 4434]),
        };
        let [frames, enrolling] = ports.map(|port| format!("{host}:{port}"));
        let at = |name: &str| world.join(name).display().to_string();
        let dc = |args: &[&str]| process::run("dc-encoder", args).unwrap();
        dc(&["pki", "issue", "--dir", &pki, "--server", NAMES, "--out", &at("pki/server")]);
        dc(&["pki", "issue", "--dir", &pki, "--operator", "ann", "--out", &at("ann")]);
        fs::copy(prepared.pki.join("crl.pem"), world.join("pki/crl.pem")).unwrap();
        let enroll = at("enroll");
        dc(&["enroll", "init", "--pki", &pki, "--dir", &enroll, "--server", &frames, "--at", &enrolling]);
        let releases = UNITS.map(|unit| {
            let (path, release) = signed_head(dir.path(), unit);
            let file = format!("{unit}.safetensors");
            for end in ["", ".sig"] {
                fs::copy(format!("{path}{end}"), world.join(format!("{file}{end}"))).unwrap();
            }
            Release { file, release }
        });
        copy_dir(&prepared.keys, &world.join("keys"));
        copy_dir(&prepared.model, &world.join("model"));
        fs::write(world.join("shell"), include_str!("../../../boxes/shell")).unwrap();
        let hardware = hardware(architecture, root, dir.path());
        let listen = ports.map(|port| format!("127.0.0.1:{port}"));
        let mut world = Self { dir, hardware, releases, place, here: None, listen };
        world.start_here();
        world
    }

    fn start_here(&mut self) {
        if self.place == Place::Here {
            let world = self.dir.path().join("world");
            let mut command = Command::new(process::program("dc-encoder").unwrap());
            command.current_dir(&world);
            command.args(self.serve().split(' '));
            let log = self.dir.path().join("dc-encoder.log");
            let mut encoder = process::Running::start_in(&mut command, "dc-encoder", &log).unwrap();
            let ready = encoder.wait_for_file(&world.join("ready"), crate::agent::GUARD).unwrap();
            self.here = Some(Server { encoder, address: ready.trim().to_owned() });
        }
    }

    /// The words after `dc-encoder` that serve, in the world's folder.
    fn serve(&self) -> String {
        let [frames, enrolling] = &self.listen;
        format!(
            "serve --listen {frames} --model model --pki pki --registry registry --release-root keys/root.pub \
             --enroll enroll --enroll-listen {enrolling} --ready-file ready"
        )
    }

    /// Puts a file of this machine into the box's `/world`; before the first boot.
    pub fn add(&self, name: &str, file: &Path) {
        fs::copy(file, self.dir.path().join("world").join(name)).unwrap();
    }

    /// Makes the second disk of what is in the folder now, and switches the box on.
    pub fn first_boot(&self) -> Machine {
        let mut command = Command::new("mke2fs");
        command.args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"]).arg(self.dir.path().join("world"));
        let made = command.arg(&self.hardware.disks[1]).arg("256M").output().unwrap();
        assert!(made.status.success(), "mke2fs: {}", String::from_utf8_lossy(&made.stderr));
        self.boot()
    }

    /// Switches the box on again.
    pub fn boot(&self) -> Machine {
        let mut machine = Machine::boot(&self.hardware, self.dir.path());
        if self.place == Place::InBox {
            let serve = self.serve();
            machine.ok(&format!("cd /world && rm -f ready && (dc-encoder {serve} >/run/encoder.log 2>&1 &)"));
        }
        machine
    }

    /// Waits until the encoder serves.
    pub fn encoder_ready(&self, machine: &mut Machine) {
        if self.place == Place::InBox {
            machine.until("cat /world/ready /run/encoder.log 2>&1", &self.listen[0]);
        }
    }

    /// `dc-encoder …` where the encoder is.
    pub fn dc(&self, machine: &mut Machine, args: &str) -> String {
        if self.place != Place::Here {
            return machine.ok(&format!("cd /world && dc-encoder {args}"));
        }
        let mut command = Command::new(process::program("dc-encoder").unwrap());
        let output =
            command.args(args.split(' ')).current_dir(self.dir.path().join("world")).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(output.status.success(), "dc-encoder {args}:\n{text}");
        text
    }

    /// The arguments that publish a release.
    pub fn publish(&self, release: &Release) -> String {
        let (file, server) = (&release.file, &self.listen[0]);
        format!("head publish {file} --channel {CHANNEL} --server {server} --cert ann")
    }

    /// Publishes and does not wait for what comes of it; for what happens to the box meanwhile.
    pub fn begin_to_publish(&self, machine: &mut Machine, release: &Release) {
        if self.place == Place::InBox {
            let publish = self.publish(release);
            machine.ok(&format!("cd /world && (dc-encoder {publish} >/run/publish.log 2>&1 &)"));
        } else {
            self.dc(machine, &self.publish(release));
        }
    }

    /// A head that nobody has signed; before the first boot.
    pub fn add_unsigned_head(&self, name: &str) {
        let file = self.dir.path().join("world").join(name).display().to_string();
        train_head(self.dir.path(), "people", &file);
    }

    /// A new token for this camera.
    pub fn token(&self, machine: &mut Machine, camera: &str) -> String {
        let made = self.dc(machine, &format!("enroll create --dir enroll --camera {camera}"));
        made.lines().find(|line| line.starts_with("FTH1")).expect(&made).to_owned()
    }
}

/// The folder that `images.sh` filled.
fn images() -> PathBuf {
    let target =
        std::env::var_os("BOXES").expect("BOXES names the folder of images: make test-boxes sets it");
    PathBuf::from(target)
}

/// The newest package of this program for amd64; packages lie beside the images.
pub fn package(name: &str) -> PathBuf {
    let found = fs::read_dir(images().join("..")).unwrap().map(|entry| entry.unwrap().path());
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|file| is_package(&file.to_string_lossy(), name));
    found.filter(fits).max().unwrap_or_else(|| panic!("no package {name} of amd64: make packages"))
}

fn is_package(file: &str, name: &str) -> bool {
    file.starts_with(&format!("{name}_")) && file.ends_with("_amd64.deb")
}

fn hardware(architecture: Architecture, root: &str, dir: &Path) -> Hardware {
    let images = images();
    let arch = architecture.debian();
    let disks = ["root.disk", "world.disk"].map(|name| dir.join(name));
    // Of its own: what this box writes is nobody else's.
    let copied =
        Command::new("cp").arg("--sparse=always").arg(images.join(root)).arg(&disks[0]).status().unwrap();
    assert!(copied.success(), "{root} is not in {}: make test-boxes", images.display());
    let [kernel, initrd] = ["kernel", "initrd"].map(|kind| images.join(format!("{arch}.{kind}")));
    Hardware { architecture, kernel, initrd, disks, clock: None }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
