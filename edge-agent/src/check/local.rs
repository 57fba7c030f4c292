//! What can be checked on this machine alone: identity, heads, source.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared::head::Task;
use shared::image::{Hide, Limits, jpeg};
use shared::tls::{self, Floor, Identity, Role};

use super::Item;
use crate::capture::{self, Image, Options, Shot, Stop};
use crate::config::Settings;
use crate::heads::{HeadSet, Loaded};
use crate::releases::gate::Gate;
use crate::uplink::prepare::Preparer;

/// A certificate that ends sooner deserves a word.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Two clocks of ordinary machines are this far apart without anybody noticing.
const CLOCK_BEHIND: Duration = Duration::from_secs(60);
/// A stream may take a while until its first key frame.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(30);

/// Loads the identity and looks at role, camera and validity.
pub(super) fn identity(settings: &Settings) -> (Option<Identity>, Vec<Item>) {
    let identity = match Identity::load(&settings.identity) {
        Ok(identity) => identity,
        Err(error) => {
            let remedy = "`edge-agent enroll` gets one, or copy the folder that `dc-encoder pki issue` wrote";
            return (None, vec![Item::fail("identity", error.to_string(), remedy)]);
        }
    };
    let floor = Floor::beside(&settings.identity);
    let mut items = vec![validity(&identity, tls::now(&floor))];
    items.extend(clock(&floor));
    for warning in identity.warnings() {
        items.push(Item::warn("identity", warning, ""));
    }
    let me = identity.me();
    if me.role != Role::Camera {
        items.push(Item::warn(
            "identity",
            format!("the certificate's role is {}, frames are sent by cameras", me.role),
            "issue a camera's certificate: `dc-encoder pki issue --camera NAME`",
        ));
    }
    match (settings.camera_name(&identity), &me.camera) {
        (Err(error), _) => items.push(Item::fail("camera", error.to_string(), "")),
        (Ok(name), Some(granted)) if name != *granted => items.push(Item::fail(
            "camera",
            format!("camera = {name:?}, but the certificate is for {granted:?}"),
            "leave camera out, or issue a certificate for it",
        )),
        (Ok(name), _) => items.push(Item::ok("camera", name)),
    }
    (Some(identity), items)
}

/// A clock that is behind works here, and shows wrong times in every answer.
fn clock(floor: &Floor) -> Option<Item> {
    let behind = floor.behind().filter(|behind| *behind > CLOCK_BEHIND)?;
    let words = format!(
        "it says {:.0}, and it is {} later at least: certificates are checked by that, answers carry the wrong time",
        Timestamp::now(),
        humantime::format_duration(Duration::from_secs(behind.as_secs()))
    );
    Some(Item::warn("clock", words, "`timedatectl set-ntp true`"))
}

fn validity(identity: &Identity, now: Timestamp) -> Item {
    let me = identity.me();
    let (from, until) = (me.not_before, me.not_after);
    let clock = format!("this machine's clock says {now:.0}");
    let remedy = "set the clock if it is wrong (`timedatectl`), else issue a new certificate";
    if !identity.is_valid_at(now) {
        return Item::fail(
            "identity",
            format!("{} is valid from {from} to {until}, {clock}", me.name),
            remedy,
        );
    }
    if until.duration_since(now) < EXPIRES_SOON {
        let words = format!("{} is valid only until {until}, {clock}", me.name);
        return Item::warn("identity", words, "issue a new certificate before then");
    }
    Item::ok("identity", format!("{}, valid until {until}, {clock}", me.name))
}

/// Loads and self-tests every head.
pub(super) fn heads(settings: &Settings) -> (Vec<Loaded>, Vec<Item>) {
    let mut items = Vec::new();
    let mut heads = Vec::new();
    // Without the store, which a running agent may hold: its own ring may be newer.
    let gate = Gate::open(settings, None);
    if let Err(error) = &gate {
        items.push(Item::fail("release_root", error.to_string(), ""));
    }
    for path in &settings.heads {
        match Loaded::load(path, settings.head_budget) {
            Ok(loaded) => {
                items.extend(head(&loaded, settings));
                if let Ok(Err(error)) = gate.as_ref().map(|gate| gate.check_file(path, &loaded)) {
                    items.push(Item::fail("head", error.to_string(), ""));
                }
                heads.push(loaded);
            }
            Err(error) => items.push(Item::fail("head", error.to_string(), "train or copy it again")),
        }
    }
    if settings.heads.is_empty() && settings.heads_dir.is_none() {
        items.push(Item::warn(
            "head",
            "none: frames are sent, but nothing is answered",
            "name some: --head FILE",
        ));
    } else if let (true, Err(error)) =
        (heads.len() == settings.heads.len(), HeadSet::load(&settings.heads, settings.head_budget))
    {
        items.push(Item::fail("head", error.to_string(), ""));
    }
    (heads, items)
}

fn head(loaded: &Loaded, settings: &Settings) -> Vec<Item> {
    let manifest = loaded.head.manifest();
    let name = format!("head {}", manifest.name);
    let score = manifest.held_out.as_ref().map_or_else(String::new, |score| match manifest.task {
        Task::Class => format!(", held-out {} {:.1} %", score.metric, 100.0 * score.value),
        _ => format!(", held-out {} {:.3} {}", score.metric, score.value, manifest.output.unit),
    });
    let words = format!("release {}, self-test passed{score}", loaded.info.release);
    let mut items = vec![Item::ok(&name, words)];
    let sent = settings.uplink.id();
    if manifest.uplink != sent {
        items.push(Item::warn(
            &name,
            format!("trained on frames sent as {}, this agent sends {sent}", manifest.uplink),
            "answers may be worse: set [uplink] to what it was trained on, or train it on frames sent like this",
        ));
    }
    items
}

/// What nobody is to see, in words.
pub(super) fn masks(settings: &Settings) -> Option<Item> {
    let regions = settings.masks.iter().map(|mask| {
        let how = match mask.hide() {
            Hide::Fill => "grey".to_owned(),
            Hide::Pixelate(block) => format!("blocks of {block} pixels"),
        };
        format!("{:.1} % of the picture ({how})", 100.0 * mask.area())
    });
    let regions: Vec<String> = regions.collect();
    let words = format!("hidden before a frame leaves this box: {}", regions.join(", "));
    (!regions.is_empty()).then(|| Item::ok("mask", words))
}

/// Opens the source and takes one frame through the uplink transformation.
pub(super) async fn source(settings: &Settings) -> Item {
    let stop = Stop::new();
    let (uri, stop_too) = (settings.source.clone(), stop.clone());
    let (size, pixels) = (settings.size, settings.pixels);
    let first = tokio::task::spawn_blocking(move || {
        let options = Options { attempts: Some(1), size, pixels, ..Options::default() };
        capture::open(&uri, &options)?.next(&stop_too)
    });
    let name = format!("source {}", settings.source);
    let first = tokio::select! {
        first = first => first,
        () = tokio::time::sleep(FIRST_FRAME_WITHIN) => {
            stop.stop();
            let words = format!("no frame within {} s", FIRST_FRAME_WITHIN.as_secs());
            return Item::fail(&name, words, "look whether another program holds it, and whether it sends at all");
        }
    };
    match first {
        Ok(Ok(Some(shot))) => frame(&name, shot, settings),
        Ok(Ok(None)) => Item::fail(&name, "it ended without a frame", "name a source that has frames"),
        Ok(Err(error)) => Item::fail(&name, error.to_string(), ""),
        Err(error) => Item::fail(&name, format!("capture failed: {error}"), "please report this"),
    }
}

fn frame(name: &str, shot: Shot, settings: &Settings) -> Item {
    let limits = Limits::default();
    let image = match shot.image {
        Ok(image) => image,
        Err(why) => return Item::fail(name, format!("the first frame cannot be read: {why}"), ""),
    };
    let (kind, width, height) = match &image {
        Image::Rgb(rgb) => ("RGB", rgb.width, rgb.height),
        Image::Yuyv { width, height, .. } => ("raw", *width, *height),
        Image::Jpeg(bytes) => match jpeg::check(bytes, &limits) {
            Ok(header) => ("JPEG", header.width, header.height),
            Err(error) => return Item::fail(name, format!("the first frame: {error}"), ""),
        },
    };
    let preparer = Preparer { uplink: settings.uplink, masks: settings.masks.clone(), limits };
    match preparer.prepare(image) {
        Ok(ready) => {
            let kilobytes = ready.jpeg.len().div_ceil(1000);
            Item::ok(name, format!("a frame of {width}x{height} ({kind}), sent as {kilobytes} kB"))
        }
        Err(error) => Item::fail(name, format!("the first frame: {error}"), ""),
    }
}
