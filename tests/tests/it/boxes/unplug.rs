//! A camera that is pulled out and put back, again and again: `CYCLES=1000 make test-boxes ONLY=unplug`.

use std::{collections::BTreeMap, time::Instant};

use tests::{
    answers::{Line, quantile},
    goals::goal,
};

use super::{
    lifetime::{AGENT, account, enrol, start, stop},
    machine::Architecture,
    world::{Place, World},
};

/// Where nothing else is asked for.
const CYCLES: u32 = 50;
const DRIVER: &str = "/sys/bus/platform/drivers/vivid";

#[test]
#[ignore = "boots virtual machines: make test-boxes"]
fn unplugged_again_and_again_no_frame_is_lost() {
    let cycles = std::env::var("CYCLES").ok().filter(|text| !text.is_empty());
    let cycles: u32 = cycles.map_or(CYCLES, |text| text.parse().expect("CYCLES is a number"));
    let world = World::new(Architecture::X86_64, "amd64.disk", Place::Here);
    let machine = &mut world.first_boot();
    enrol(&world, machine);
    stop(machine);
    machine.ok(&format!("sed -i 's/^fps = .*/fps = 4.0/' {AGENT} && echo '[capture]' >>{AGENT}"));
    machine.ok(&format!("echo 'size = \"320x180\"' >>{AGENT} && : >/run/agent.log"));
    machine.catch_up();
    machine.seen.clear();
    start(machine);
    let first = machine.answer("answer", Line::is_answer).seq;
    let mut last = first;
    // Of what comes and goes `ls` may find the name and no more.
    let descriptors = "$(ls /proc/$(cat /run/agent.pid)/fd 2>/dev/null | wc -l)";
    let open = machine.ok(&format!("echo {descriptors}"));
    let mut back = Vec::new();
    for _ in 0..cycles {
        machine.ok(&format!(": >/run/agent.log && echo vivid.0 >{DRIVER}/unbind"));
        machine.until("cat /run/agent.log", "the camera is gone");
        machine.catch_up();
        let before = machine.seen.iter().map(|line| line.seq).max().unwrap();
        let plugged = Instant::now();
        machine.ok(&format!("echo vivid.0 >{DRIVER}/bind"));
        let wanted = |line: &Line| line.is_answer() && line.seq > before;
        last = machine.answer("answer of the camera that is back", wanted).seq;
        back.push(plugged.elapsed().as_secs_f64() * 1e3);
    }
    machine.until(&format!("[ {descriptors} -le {} ] && echo none leaked", open.trim()), "none leaked");
    let [captured, answered, dropped] = account(machine);
    // Between the first and the last answer: before, the agent connects; after, it is told to stop.
    let dropped_between = machine.seen.iter().filter(|line| (first..=last).contains(&line.seq));
    let mut reasons = BTreeMap::<&str, u64>::new();
    for reason in dropped_between.filter_map(|line| line.dropped.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    println!("{captured} frames captured, {answered} answered, {dropped} dropped; meanwhile: {reasons:?}");
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| quantile(&back, q).unwrap());
    println!("from plugging in to the first answer, emulated: p50 {p50:.0}, p99 {p99:.0}, max {max:.0} ms");
    let lost: u64 = reasons.values().sum();
    let what = format!("frames lost over {cycles} unplug/replug cycles, x86_64, emulated");
    goal(&what, "0", &lost.to_string(), lost == 0);
}
