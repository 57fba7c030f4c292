//! A box's life, from a bare disk: camera, enrolment, answers, heads swapped, camera lost and silent, power lost.

use std::time::Duration;

use tests::{answers::Line, goals::goal};

use super::{
    machine::{Architecture, Machine},
    world::{Place, Release, World},
};

pub const AGENT: &str = "/etc/edge-agent/agent.toml";
/// Later and later after the swap began: emulated, it takes about as long as all of them.
const CUT_STEP: Duration = Duration::from_millis(400);
/// Of the table in docs/performance.md.
const IDLE_GOAL_MB: f64 = 15.0;

/// Starts the agent, whose answers come to the test.
pub fn start(machine: &mut Machine) {
    start_with(machine, "");
}

/// Starts it with something in its environment.
fn start_with(machine: &mut Machine, environment: &str) {
    machine.ok(&format!(
        "({environment} edge-agent run --format json --config {AGENT} >/run/port-answers 2>>/run/agent.log & echo $! >/run/agent.pid)"
    ));
}

/// Ends the agent in peace; what it said.
pub fn stop(machine: &mut Machine) -> String {
    machine.ok("kill $(cat /run/agent.pid)");
    let log = machine.until("cat /run/agent.log", "captured=");
    wait(machine);
    log
}

/// Waits until the agent has closed its files: the port for answers opens for one at a time.
fn wait(machine: &mut Machine) {
    machine.ok("while [ -e /proc/$(cat /run/agent.pid)/fd/1 ]; do sleep 0.1; done");
}

/// Whether a line is a fresh answer of this release.
fn of<'a>(release: &'a Release) -> impl Fn(&Line) -> bool + 'a {
    |line| line.is_answer() && line.release.as_deref() == Some(release.release.as_str())
}

/// The encoder is emulated: it gets a frame in two seconds, and may take its time.
pub fn give_it_time(machine: &mut Machine, config: &str) {
    machine.ok(&format!("sed -i -e 's/^fps = .*/fps = 0.5/' -e '1i deadline = \"1m\"' {config}"));
}

/// Listed, enrolled and checked as a person would; the first answers are of the first release.
pub fn enrol(world: &World, machine: &mut Machine) {
    let listed = machine.ok("edge-agent cameras");
    for words in ["/dev/video0  vivid", "YUYV", "1280x720", "source = \"/dev/video0\""] {
        assert!(listed.contains(words), "{words} is not in\n{listed}");
    }
    world.encoder_ready(machine);
    let token = world.token(machine, "plaza-1");
    let enrolled = machine.ok(&format!("echo {token} | edge-agent enroll"));
    assert!(enrolled.contains("camera plaza-1") && !enrolled.contains(&token), "{enrolled}");
    give_it_time(machine, AGENT);
    let checked = machine.ok(&format!("edge-agent check --config {AGENT}"));
    assert!(checked.contains("ok   source /dev/video0: a frame of 1280x720 (raw)"), "{checked}");
    world.dc(machine, &world.publish(&world.releases[0]));
    start(machine);
    machine.answer("answer of the first release", of(&world.releases[0]));
}

/// A frame of every raw format, at several sizes, through V4L2 and the agent's own transformation.
fn formats(machine: &mut Machine) {
    let check = |pixels: &str, size: &str| {
        format!("FTH_CAPTURE_PIXELS={pixels} FTH_CAPTURE_SIZE={size} edge-agent check --config {AGENT}")
    };
    for (pixels, size) in
        [("YUYV", "320x180"), ("UYVY", "640x360"), ("NV12", "1280x720"), ("GREY", "1920x1080")]
    {
        let checked = machine.ok(&check(pixels, size));
        assert!(checked.contains(&format!("a frame of {size} (raw)")), "{pixels}:\n{checked}");
    }
    let refused = machine.run(&check("MJPG", "1280x720"));
    assert!(refused.status != 0 && refused.text.contains("does not offer MJPG"), "{}", refused.text);
}

/// The next frame is answered by the release that was published.
fn swap(world: &World, machine: &mut Machine) {
    world.dc(machine, &world.publish(&world.releases[1]));
    machine.answer("answer of the second release", of(&world.releases[1]));
}

/// Ends the agent: whatever happened to it, every frame was answered, or dropped with a reason, once.
pub fn account(machine: &mut Machine) -> [u64; 3] {
    let log = stop(machine);
    let [captured, answered, dropped] = crate::agent::ledger(&log);
    assert_eq!(captured, answered + dropped, "{log}");
    // Before its first head came, the box sent frames that nothing was there to answer.
    let first = machine.seen.iter().filter(|line| line.is_answer()).map(|line| line.seq).min().unwrap();
    let lines = |machine: &Machine| {
        let fresh = machine.seen.iter().filter(|line| line.stale != Some(true) && line.seq >= first);
        let mut seqs: Vec<u64> = fresh.map(|line| line.seq).collect();
        seqs.sort_unstable();
        seqs
    };
    while (lines(machine).len() as u64) < captured - first {
        machine.answer("line for every frame", |line| line.stale != Some(true));
    }
    assert_eq!(lines(machine), (first..captured).collect::<Vec<_>>(), "every frame has one line");
    [captured, answered, dropped]
}

/// The camera is pulled out and put back.
fn lose_the_camera(machine: &mut Machine) {
    let driver = "/sys/bus/platform/drivers/vivid";
    machine.ok(&format!("echo vivid.0 >{driver}/unbind"));
    machine.until("cat /run/agent.log", "the camera is gone");
    machine.catch_up();
    let before = machine.seen.iter().map(|line| line.seq).max().unwrap();
    machine.ok(&format!("echo vivid.0 >{driver}/bind"));
    machine.answer("answer from the camera that is back", |line| line.is_answer() && line.seq > before);
}

/// The camera stays plugged in and gives no pictures for a while: the stream is opened again, not waited for in vain.
fn silence_the_camera(machine: &mut Machine) {
    let dropping =
        |percent: u32| format!("v4l2-ctl -d /dev/video0 -c percentage_of_dropped_buffers={percent}");
    machine.ok(&format!(": >/run/agent.log && {}", dropping(100)));
    machine.until("cat /run/agent.log", "no frame for");
    machine.catch_up();
    let before = machine.seen.iter().map(|line| line.seq).max().unwrap();
    machine.ok(&dropping(0));
    machine.answer("answer from the camera that sees again", |line| line.is_answer() && line.seq > before);
}

/// The agent dies at once, and goes on with what it had.
fn kill(world: &World, machine: &mut Machine) {
    start(machine);
    machine.answer("answer before the kill", of(&world.releases[1]));
    machine.ok("kill -9 $(cat /run/agent.pid)");
    wait(machine);
    start(machine);
    machine.catch_up();
    let line = machine.answer("answer after the kill", Line::is_answer);
    assert_eq!(line.release.as_deref(), Some(world.releases[1].release.as_str()));
}

/// The power goes while a head is swapped: the box comes back with the old one or the new one, and takes the new one.
fn cut_power_while_swapping(world: &World, mut machine: Machine) -> Machine {
    for (cut, pair) in world.releases[1..].windows(2).enumerate() {
        machine.step("cut power");
        let [before, next] = pair else { unreachable!("windows of two") };
        world.begin_to_publish(&mut machine, next);
        std::thread::sleep(CUT_STEP * cut as u32);
        machine.cut_power();
        machine = world.boot();
        world.encoder_ready(&mut machine);
        start(&mut machine);
        let first = machine.answer("answer after the power cut", Line::is_answer);
        assert!(of(before)(&first) || of(next)(&first), "{first:?}");
        world.dc(&mut machine, &world.publish(next));
        machine.answer("answer of the release whose swap was cut", of(next));
    }
    machine
}

/// An agent that is connected, has its camera open and has answered, while no frame is on its way.
fn idle_memory(machine: &mut Machine, name: &str) {
    machine.ok(": >/run/agent.log");
    machine.catch_up();
    start_with(machine, "FTH_FPS=0.001");
    machine.answer("the one answer", Line::is_answer);
    let status = machine.ok("cat /proc/$(cat /run/agent.pid)/status");
    stop(machine);
    let mb = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib: Option<f64> = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        kib.expect(&status) * 1024.0 / 1e6
    };
    let [own, mapped] = ["RssAnon", "RssFile"].map(mb);
    println!("{own:.1} MB its own, {mapped:.1} MB mapped: program, libraries, the camera's buffers");
    let mb = mb("VmRSS");
    goal(
        &format!("edge-agent {name} resident memory, idle, one head, emulated"),
        &format!("{IDLE_GOAL_MB}MB"),
        &format!("{mb:.1}MB"),
        mb <= IDLE_GOAL_MB,
    );
}

fn live(architecture: Architecture, place: Place, clock: Option<&'static str>) {
    let mut world = World::new(architecture, &format!("{}.disk", architecture.debian()), place);
    world.hardware.clock = clock;
    let mut machine = world.first_boot();
    machine.step("enrol");
    enrol(&world, &mut machine);
    machine.step("swap");
    swap(&world, &mut machine);
    machine.step("lose the camera");
    lose_the_camera(&mut machine);
    machine.step("silence the camera");
    silence_the_camera(&mut machine);
    let [captured, answered, dropped] = account(&mut machine);
    println!("{captured} frames captured, {answered} answered, {dropped} dropped with a reason");
    machine.step("idle memory");
    idle_memory(&mut machine, architecture.debian());
    machine.step("formats");
    formats(&mut machine);
    machine.step("kill");
    kill(&world, &mut machine);
    let mut machine = cut_power_while_swapping(&world, machine);
    let log = machine.run("cat /run/agent.log").text;
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
#[ignore = "boots virtual machines: make test-boxes"]
fn an_x86_64_box_lives() {
    live(Architecture::X86_64, Place::InBox, None);
}

#[test]
#[ignore = "boots virtual machines: make test-boxes"]
fn an_aarch64_box_lives() {
    live(Architecture::Aarch64, Place::InBox, None);
}

/// Without a battery for its clock, too: every power-on is in 1970.
#[test]
#[ignore = "boots virtual machines: make test-boxes"]
fn an_armv7_box_lives_in_1970() {
    live(Architecture::Armv7, Place::Here, Some("1970-01-01T00:00:00"));
}
