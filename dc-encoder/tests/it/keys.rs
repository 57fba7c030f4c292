//! Keys and signed heads, through the folder and the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dc_encoder::heads::{KindChoice, Labels, Options, save, train};
use dc_encoder::keys::{KeyFolder, KeysError};
use shared::head::Task;
use shared::release::{KeyRole, SigningKey};
use tempfile::TempDir;

/// A folder with keys and a head.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        KeyFolder::init(&world.keys()).unwrap();
        save(&world.head(), &head()).unwrap();
        world
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn head(&self) -> PathBuf {
        self.dir.path().join("people-count.safetensors")
    }

    /// Runs the program in the folder.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
        command.args(args).current_dir(self.dir.path()).output().unwrap()
    }

    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A small head of forty labels.
pub fn head() -> Vec<u8> {
    let numbers: Vec<f32> = (0..160).map(|i| ((i * 37 % 101) as f32) / 50.0).collect();
    let embeddings = crate::heads::embeddings(4, numbers);
    let mut csv = "file,count\n".to_owned();
    (0..40).for_each(|i| csv += &format!("{i:04}.jpg,{}\n", i % 7));
    let dir = tempfile::tempdir().unwrap();
    let labels = dir.path().join("labels.csv");
    std::fs::write(&labels, csv).unwrap();
    let labels = Labels::read(&labels, Task::Count).unwrap();
    let options = Options { kind: KindChoice::Linear, ..Options::new(Task::Count) };
    train(&embeddings, &labels, &options).unwrap().bytes
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const HEAD: &str = "people-count.safetensors";

#[test]
fn init_makes_private_keys_and_a_ring_and_overwrites_nothing() {
    let world = World::new();
    let at = |name: &str| world.keys().join(name);
    for name in ["root.key", "heads-1.key", "assignments-1.key"] {
        assert_eq!(mode(&at(name)), 0o600, "{name}");
    }
    let before = std::fs::read(at("root.key")).unwrap();
    let again = KeyFolder::init(&world.keys()).unwrap_err();
    assert!(matches!(again, KeysError::Exists(_)), "{again}");
    assert_eq!(std::fs::read(at("root.key")).unwrap(), before);
    let shown = world.succeeds(&["keys", "show"]);
    assert!(shown.contains("key ring  version 1") && shown.contains("heads-1"), "{shown}");
    let none = world.fails(&["keys", "show", "--dir", "nowhere"]);
    assert!(
        none.contains("nowhere/root.pub is missing") && none.contains("keys init --dir nowhere"),
        "{none}"
    );
}

#[test]
fn sign_verify_and_inspect_a_head() {
    let world = World::new();
    assert!(world.succeeds(&["head", "inspect", HEAD]).contains("signature  none: sign it with"));
    let unsigned = world.fails(&["head", "verify", HEAD]);
    assert!(unsigned.contains("is not signed"), "{unsigned}");
    let signed = world.succeeds(&["head", "sign", HEAD]);
    assert!(
        signed.contains("people-count.safetensors.sig") && signed.contains("signed by heads-1"),
        "{signed}"
    );
    assert_eq!(mode(&world.dir.path().join("people-count.safetensors.sig")), 0o644);
    let verified = world.succeeds(&["head", "verify", HEAD]);
    assert!(verified.contains("signed by heads-1") && verified.contains("self-test passed"), "{verified}");
    assert!(
        world.succeeds(&["head", "inspect", HEAD]).contains("not checked: name the keys with --keys DIR")
    );
    let inspected = world.succeeds(&["head", "inspect", HEAD, "--keys", "keys"]);
    assert!(inspected.contains("signature  valid, by heads-1"), "{inspected}");
    let secret = std::fs::read_to_string(world.keys().join("heads-1.key")).unwrap();
    let body = secret.lines().nth(1).unwrap();
    assert!(![signed, verified, inspected].iter().any(|text| text.contains(body)), "a key was printed");
}

#[test]
fn a_changed_head_and_a_strange_key_are_refused() {
    let world = World::new();
    world.succeeds(&["head", "sign", HEAD]);
    let mut bytes = std::fs::read(world.head()).unwrap();
    // In the tensors: the file still loads, its self-test may even pass.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(world.dir.path().join("other.safetensors"), &bytes).unwrap();
    let signature = world.dir.path().join("people-count.safetensors.sig");
    std::fs::copy(&signature, world.dir.path().join("other.safetensors.sig")).unwrap();
    let inspected = world.run(&["head", "inspect", "other.safetensors", "--keys", "keys"]);
    assert!(String::from_utf8_lossy(&inspected.stdout).contains("NOT VALID: the signature is for release"));
    KeyFolder::init(&world.dir.path().join("strange")).unwrap();
    let other_root = world.fails(&["head", "verify", HEAD, "--keys", "strange"]);
    assert!(other_root.contains("is not in key ring version 1"), "{other_root}");
    let wrong_key = world.fails(&["head", "sign", HEAD, "--key", "keys/assignments-1.key"]);
    assert!(wrong_key.contains("signs assignments, not heads"), "{wrong_key}");
    std::fs::write(world.dir.path().join("text.safetensors"), "not a head").unwrap();
    assert!(world.fails(&["head", "sign", "text.safetensors"]).contains("text.safetensors"));
    assert!(!world.dir.path().join("text.safetensors.sig").exists());
}

#[test]
fn rotate_then_revoke_and_the_old_signature_is_void() {
    let world = World::new();
    world.succeeds(&["head", "sign", HEAD]);
    let rotated = world.succeeds(&["keys", "rotate", "--role", "heads"]);
    assert!(rotated.contains("heads-2") && rotated.contains("key ring version 2"), "{rotated}");
    assert!(world.succeeds(&["head", "verify", HEAD]).contains("signed by heads-1"), "still valid");
    let revoked = world.succeeds(&["keys", "revoke", "heads-1"]);
    assert!(revoked.contains("key ring version 3"), "{revoked}");
    assert!(world.fails(&["head", "verify", HEAD]).contains("heads-1"));
    assert!(world.fails(&["keys", "revoke", "heads-1"]).contains("revoked already"));
    assert!(world.fails(&["keys", "revoke", "heads-9"]).contains("no key \"heads-9\""));
    assert!(world.fails(&["head", "sign", HEAD, "--key", "keys/heads-1.key"]).contains("was revoked"));
    assert!(world.succeeds(&["head", "sign", HEAD]).contains("signed by heads-2"));
    world.succeeds(&["head", "verify", HEAD]);
    assert!(world.succeeds(&["keys", "show"]).contains("revoked   heads"));
}

#[test]
fn a_root_kept_elsewhere_is_named_and_must_be_the_right_one() {
    let world = World::new();
    let (root, usb) = (world.keys().join("root.key"), world.dir.path().join("usb.key"));
    std::fs::rename(&root, &usb).unwrap();
    let missing = world.fails(&["keys", "rotate", "--role", "heads"]);
    assert!(missing.contains("bring the root key") && missing.contains("--root-key"), "{missing}");
    world.succeeds(&["keys", "rotate", "--role", "assignments", "--root-key", "usb.key"]);
    let other = world.fails(&["keys", "rotate", "--role", "heads", "--root-key", "keys/heads-1.key"]);
    assert!(other.contains("is not the key of keys/root.pub"), "{other}");
    std::fs::set_permissions(&usb, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = world.fails(&["keys", "revoke", "heads-1", "--root-key", "usb.key"]);
    assert!(exposed.contains("has mode 640"), "{exposed}");
    let folder = KeyFolder::open(&world.keys()).unwrap();
    assert_eq!(folder.trust().ring().version, 2, "nothing was changed by what failed");
}

#[test]
fn a_key_left_by_a_command_that_was_cut_short_is_not_used() {
    let world = World::new();
    let left = world.keys().join("heads-2.key");
    std::fs::copy(world.keys().join("assignments-1.key"), &left).unwrap();
    let mut folder = KeyFolder::open(&world.keys()).unwrap();
    assert_eq!(folder.rotate(KeyRole::Heads, None).unwrap().name, "heads-3");
    let key = folder.signing_key(KeyRole::Heads, None).unwrap();
    assert_eq!(key.public(), SigningKey::load(&world.keys().join("heads-3.key")).unwrap().public());
    std::fs::remove_file(world.keys().join("heads-3.key")).unwrap();
    std::fs::remove_file(world.keys().join("heads-1.key")).unwrap();
    let none = folder.signing_key(KeyRole::Heads, None).unwrap_err().to_string();
    assert!(none.contains("no valid key for heads") && none.contains("--role heads"), "{none}");
}
