//! Batches that form by themselves: when they are full or old enough, never past the budget, and nothing twice.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dc_encoder::annotate::{
    AnnotateError, Batch, Budget, Form, Formed, Guesses, Keep, Outgoing, Plan, Platform, Pulled, form,
    push_with,
};
use dc_encoder::archive::{Archive, Embedding, FrameId, Incoming};
use fixtures::{linear, manifest};
use jiff::Timestamp;
use protocol::SpaceId;
use shared::head::{Head, Manifest, Task};
use tempfile::TempDir;

use super::archive::incoming;

/// A platform that takes so many frames at a time and is then gone.
struct Shop {
    takes: usize,
    there: HashSet<FrameId>,
    /// Frames that came twice.
    twice: usize,
}

impl Platform for Shop {
    fn name(&self) -> &'static str {
        "shop"
    }

    fn place(&self) -> String {
        "here".to_owned()
    }

    fn push(&mut self, out: &Outgoing<'_>, keep: &mut Keep<'_>) -> Result<(), AnnotateError> {
        for (n, item) in out
            .items
            .iter()
            .filter(|it| !self.there.contains(&it.record.id))
            .collect::<Vec<_>>()
            .into_iter()
            .enumerate()
        {
            if n == self.takes {
                return Err(AnnotateError::Platform("gone".to_owned()));
            }
            self.twice += usize::from(!self.there.insert(item.record.id));
            keep(&[(item.record.id, n.to_string())])?;
        }
        Ok(())
    }

    fn pull(&mut self, _: &dc_encoder::annotate::Asked<'_>) -> Result<Pulled, AnnotateError> {
        Ok(Pulled::default())
    }
}

struct World {
    dir: TempDir,
    archive: Archive,
    plan: Plan,
    shop: Shop,
}

/// Frames that all look different.
fn frames(numbers: std::ops::Range<u32>) -> Vec<Incoming> {
    let place = |i: u32| (0..4).map(|axis| if i % 4 == axis { (i + 1) as f32 } else { 0.0 }).collect();
    let frame = |i| Incoming {
        embedding: Some(Embedding { space: SpaceId([7; 32]), values: place(i) }),
        ..incoming("plaza-1", i)
    };
    numbers.map(frame).collect()
}

impl World {
    fn new(n: u32, plan: Plan) -> Self {
        let dir = TempDir::new().unwrap();
        let archive = Archive::open(&dir.path().join("archive")).unwrap();
        archive.add(frames(0..n)).unwrap();
        Self { dir, archive, plan, shop: Shop { takes: 1000, there: HashSet::new(), twice: 0 } }
    }

    fn form(&self, now: Timestamp) -> Result<Formed, String> {
        let form_ = Form { camera: "plaza-1", task: Task::Count, labels_each: 1, plan: &self.plan };
        form(&self.archive, &form_, now).map_err(|error| error.to_string())
    }

    fn push(&mut self, name: &str) -> Result<usize, String> {
        let budget = self.plan.budget;
        let pushed = push_with(&self.archive, name, &mut self.shop, (&Guesses::default(), &budget));
        pushed.map(|it| it.new).map_err(|error| error.to_string())
    }
}

fn plan(size: usize, budget: Budget) -> Plan {
    Plan { size, age: Some(Duration::from_secs(3600)), budget, ..Plan::default() }
}

#[test]
fn full_ones_go_at_once_and_others_when_they_are_old_enough() {
    let now = Timestamp::now();
    let mut world = World::new(14, plan(10, Budget::default()));
    let Formed { name, frames: n, beyond } = world.form(now).unwrap();
    assert_eq!((n, beyond), (10, 0));
    assert!(name.starts_with("plaza-1.20"), "{name}");
    assert_eq!(world.push(&name), Ok(10));
    let held = world.form(now).unwrap_err();
    assert!(
        held.starts_with(
            "nothing was sent: 4 frames wait, a batch is full with 10 or when the oldest is 1h old"
        ),
        "{held}"
    );
    let later = now + Duration::from_secs(3700);
    let rest = world.form(later).unwrap();
    assert_eq!((rest.frames, rest.beyond), (4, 0));
    assert_ne!(rest.name, name);
    assert_eq!(world.push(&rest.name), Ok(4));
    assert_eq!((world.shop.there.len(), world.shop.twice), (14, 0), "no frame is in two batches");
    assert_eq!(
        world.form(later).unwrap_err(),
        "nothing was sent: no frame is worth a label: each looks like one that is labelled or on its way"
    );
    world.archive.add(frames(14..24)).unwrap();
    assert_eq!(world.form(now).unwrap().frames, 10, "new ones make the next");
}

#[test]
fn the_budget_is_never_passed_and_what_holds_is_named() {
    let now = Timestamp::now();
    let budget =
        Budget { labels_per_day: Some(12), price: Some(0.5), money: Some(100.0), ..Budget::default() };
    let mut world = World::new(24, plan(10, budget));
    let first = world.form(now).unwrap().name;
    world.push(&first).unwrap();
    let second = world.form(now).unwrap();
    assert_eq!((second.frames, second.beyond), (2, 8), "as far as the budget reaches");
    world.push(&second.name).unwrap();
    let held = world.form(now).unwrap_err();
    assert_eq!(
        held,
        "nothing was sent: the budget's labels_per_day is 12, 12 are spent and 1 more are wanted; it frees up as 24 hours pass"
    );
    // A batch that somebody made by hand does not pass it either, and is not begun.
    let ids: Vec<FrameId> = Batch::get(&world.archive, &first).unwrap().frames;
    Batch::create(&world.archive, "by-hand", (Task::Count, ids)).unwrap();
    let error = world.push("by-hand").unwrap_err();
    assert!(error.contains("labels_per_day is 12, 12 are spent and 10 more are wanted"), "{error}");
    assert_eq!(Batch::get(&world.archive, "by-hand").unwrap().sent, None);
    assert_eq!(world.shop.there.len(), 12);
    // A day later there is room again; of money, 6 of 100 are spent.
    let tomorrow = now + Duration::from_secs(24 * 3600 + 60);
    assert_eq!(world.form(tomorrow).unwrap().frames, 10);
    world.plan.budget = Budget { money: Some(6.0), price: Some(0.5), ..Budget::default() };
    let held = world.form(tomorrow).unwrap_err();
    assert!(held.contains("the budget's money is 6.00, 6.00 are spent and 0.50 more are wanted"), "{held}");
}

#[test]
fn one_that_was_cut_off_is_gone_on_with_and_paid_once() {
    let now = Timestamp::now();
    let budget = Budget { labels: Some(10), price: Some(1.0), ..Budget::default() };
    let mut world = World::new(10, plan(10, budget));
    world.shop.takes = 4;
    let name = world.form(now).unwrap().name;
    assert_eq!(world.push(&name), Err("gone".to_owned()));
    let sent = Batch::get(&world.archive, &name).unwrap().sent.unwrap();
    assert_eq!((sent.tasks.len(), sent.whole, sent.labels, sent.money), (4, false, 10, 10.0));
    world.shop.takes = 1000;
    assert_eq!(world.push(&name), Ok(6), "within a budget that it has spent itself");
    let sent = Batch::get(&world.archive, &name).unwrap().sent.unwrap();
    assert_eq!((sent.tasks.len(), sent.whole, sent.labels, sent.money), (10, true, 10, 10.0));
    assert_eq!((world.shop.there.len(), world.shop.twice), (10, 0));
}

#[test]
fn a_head_says_its_answer_for_every_frame_that_it_can_read() {
    let world = World::new(3, plan(3, Budget::default()));
    let name = world.form(Timestamp::now()).unwrap().name;
    let batch = Batch::get(&world.archive, &name).unwrap();
    let items = batch.items(&world.archive).unwrap();
    let head = |task: Task, space| {
        let manifest = Manifest { task, ..manifest("people", SpaceId([space; 32]), 4) };
        Head::from_bytes(&linear(&manifest, &[1.0, 1.0, 1.0, 1.0], 0.4, &[1.0; 4])).unwrap()
    };
    let guesses = Guesses::of(&world.archive, Task::Count, &items, &[head(Task::Count, 7)]).unwrap();
    let mut said: Vec<f64> = items.iter().map(|it| guesses.get(it.record.id).unwrap().value).collect();
    said.sort_by(f64::total_cmp);
    assert_eq!(said, [1.0, 2.0, 3.0], "1.4, 2.4 and 3.4: people count whole things");
    let refused = |head| Guesses::of(&world.archive, Task::Count, &items, &[head]).unwrap_err().to_string();
    assert!(
        refused(head(Task::Scalar, 7)).starts_with("head people answers scalar, the batch asks for count")
    );
    assert!(
        refused(head(Task::Count, 8))
            .contains("reads embeddings of space 080808080808…, and no frame of the batch has one")
    );
}

/// `dc-encoder label …` in the world's folder: its status, and what it says.
fn label(world: &World, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dc-encoder"))
        .arg("label")
        .args(args)
        .current_dir(world.dir.path())
        .env_remove("FTH_LABEL_CONFIG")
        .env_remove("LABEL_STUDIO_TOKEN")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
    (output.status.success(), text)
}

#[test]
fn the_commands_say_what_they_do_and_what_they_lack() {
    let world = World::new(3, Plan::default());
    let write = |name: &str, text: &str| std::fs::write(world.dir.path().join(name), text).unwrap();
    let push = |to: &str| label(&world, &["push", "--camera", "plaza-1", "--task", "count", "--to", to]);
    assert_eq!(
        push("label-studio"),
        (
            false,
            "error: the configuration has no table [label_studio]: --config FILE, see docs/labelling.md\n"
                .to_owned()
        )
    );
    write(
        "label.toml",
        "[label]\nsize = 3\n[label.budget]\nlabels = 2\n[label_studio]\nurl = \"http://127.0.0.1:9\"\ntitle = \"abc\"\n",
    );
    let (ok, said) = push("label-studio");
    assert!(
        !ok && said.contains(
            "there is no token of Label Studio: name its file as `token_file`, or set LABEL_STUDIO_TOKEN"
        ),
        "{said}"
    );
    // A folder asks for no token, and its labels count for the budget, too.
    let (ok, said) = push("out");
    assert!(ok && said.contains("2 frames, 1 more wait: that is as far as the budget reaches"), "{said}");
    assert!(Path::new(&world.dir.path().join("out/labels.csv")).exists());
    let (ok, said) = push("out-2");
    assert!(ok && said.starts_with("nothing was sent: 1 frames wait, a batch is full with 3"), "{said}");
    let (ok, said) = label(&world, &["pull"]);
    assert!(ok && said.contains("no batch was sent to a platform"), "{said}");
    let (ok, said) = label(&world, &["status"]);
    assert!(ok && said.contains("0 of 2 labelled (count), sent to folder out"), "{said}");
    write("label.toml", "[label]\nsiez = 3\n");
    let (ok, said) = push("out-3");
    assert!(!ok && said.contains("label.toml:2: label.siez: unknown key, did you mean `size`?"), "{said}");
    let (ok, said) = label(&world, &["listen"]);
    assert!(!ok && said.contains("label.toml:2"), "{said}");
    write("label.toml", "[label]\nsize = 3\n");
    assert!(label(&world, &["listen"]).1.contains("has no table [scale]"));
}

#[test]
fn every_command_shows_an_example() {
    let world = World::new(1, Plan::default());
    for command in ["suggest", "serve", "push", "pull", "listen", "status"] {
        let (ok, said) = label(&world, &[command, "--help"]);
        assert!(
            ok && said.contains("Example") && said.contains(&format!("dc-encoder label {command}")),
            "{said}"
        );
    }
    let (ok, said) = label(&world, &["push", "--help"]);
    assert!(
        ok && !said.to_lowercase().contains("--token") && !said.contains("--key"),
        "secrets are no arguments: {said}"
    );
}
