use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const FOREVER: Duration = Duration::from_secs(3600);

fn limits(per_camera: usize, total: usize) -> Limits {
    Limits { per_camera, total }
}

fn frame(camera: u64, id: u64, seq: u64, deadline: Instant) -> Entry<()> {
    weighted(camera, 1, id, seq, deadline)
}

fn weighted(camera: u64, weight: u16, id: u64, seq: u64, deadline: Instant) -> Entry<()> {
    Entry { camera: CameraKey(camera), id: FrameId(id), seq, weight, deadline, item: () }
}

fn ids<T>(entries: &[Entry<T>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id.0).collect()
}

#[test]
fn an_idle_device_takes_what_is_there() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(2, 8));
    assert!(queue.push(now, frame(1, 1, 1, now + FOREVER)).is_empty());
    assert_eq!(ids(&queue.take(now, 16)), [1]);
    assert!(queue.is_empty());
}

#[test]
fn newest_wins_within_a_camera_whatever_the_order_of_arrival() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(2, 8));
    for (id, seq) in [(1, 10), (2, 12), (3, 11)] {
        let dropped = queue.push(now, frame(1, id, seq, now + FOREVER));
        for Dropped { entry, reason } in dropped {
            assert_eq!((entry.seq, reason), (10, DropReason::Superseded));
        }
    }
    let late = queue.push(now, frame(1, 4, 9, now + FOREVER));
    assert_eq!(late[0].entry.id, FrameId(4), "a frame older than all that wait is itself the one to go");
    assert_eq!(ids(&queue.take(now, 16)), [3, 2]);
}

#[test]
fn cameras_take_turns_across_batches() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(4, 16));
    for (id, camera) in [1, 1, 1, 1, 2, 3].into_iter().enumerate() {
        queue.push(now, frame(camera, id as u64, id as u64, now + FOREVER));
    }
    assert_eq!(ids(&queue.take(now, 2)), [0, 4]);
    assert_eq!(ids(&queue.take(now, 2)), [5, 1]);
    assert_eq!(ids(&queue.take(now, 9)), [2, 3]);
}

#[test]
fn a_turn_is_as_long_as_the_cameras_weight_also_across_batches() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(8, 32));
    for id in 0..7 {
        queue.push(now, weighted(1, 3, id, id, now + FOREVER));
        queue.push(now, weighted(2, 1, 100 + id, id, now + FOREVER));
    }
    assert_eq!(ids(&queue.take(now, 2)), [0, 1]);
    assert_eq!(ids(&queue.take(now, 3)), [2, 100, 3]);
    assert!(queue.cancel(CameraKey(1), FrameId(4)).is_some(), "a cancelled frame is not part of the turn");
    assert_eq!(ids(&queue.take(now, 3)), [5, 6, 101], "a turn ends where nothing waits");
    assert_eq!(ids(&queue.take(now, 9)), [102, 103, 104, 105, 106]);
}

#[test]
fn a_full_queue_takes_from_who_has_most_for_its_weight() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(8, 6));
    for id in 0..4 {
        queue.push(now, weighted(1, 4, id, id, now + FOREVER));
    }
    for id in 10..12 {
        queue.push(now, weighted(2, 1, id, id, now + FOREVER));
    }
    let dropped = queue.push(now, weighted(3, 1, 20, 0, now + FOREVER));
    assert_eq!((dropped[0].entry.id, dropped[0].reason), (FrameId(10), DropReason::Overloaded));
}

#[test]
fn a_batch_is_no_larger_than_its_frames_have_time() {
    let (now, ms) = (Instant::now(), Duration::from_millis);
    let mut queue = Queue::new(limits(4, 16));
    for (id, camera, deadline) in [(0, 1, 250), (1, 2, 900), (2, 3, 50), (3, 4, 900), (4, 5, 900)] {
        queue.push(now, frame(camera, id, id, now + ms(deadline)));
    }
    assert_eq!(ids(&queue.take_in_time(now, 8, ms(100))), [0, 1], "a third would make the first late");
    assert_eq!(ids(&queue.take_in_time(now, 8, ms(100))), [3, 4], "frame 2 cannot be in time");
    assert_eq!(ids(&queue.take_in_time(now, 8, ms(100))), [2], "better late than nothing to measure by");
}

#[test]
fn a_full_queue_takes_from_the_greediest() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(3, 4));
    for id in 0..3 {
        queue.push(now, frame(1, id, id, now + FOREVER));
    }
    queue.push(now, frame(2, 10, 0, now + FOREVER));
    let dropped = queue.push(now, frame(3, 20, 0, now + FOREVER));
    assert_eq!((dropped[0].entry.id, dropped[0].reason), (FrameId(0), DropReason::Overloaded));
    queue.push(now, frame(4, 30, 0, now + FOREVER));
    let refused = queue.push(now, frame(5, 40, 0, now + FOREVER));
    assert_eq!(
        refused[0].entry.id,
        FrameId(40),
        "when nobody has more than one, the newcomer waits its luck"
    );
}

#[test]
fn expired_frames_make_room_before_anyone_is_overloaded() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(2, 2));
    queue.push(now, frame(1, 1, 1, now + Duration::from_secs(1)));
    queue.push(now, frame(2, 2, 1, now + FOREVER));
    let later = now + Duration::from_secs(2);
    let dropped = queue.push(later, frame(3, 3, 1, later + FOREVER));
    assert_eq!((dropped[0].entry.id, dropped[0].reason), (FrameId(1), DropReason::Expired));
    assert_eq!(queue.len(), 2);
}

#[test]
fn late_cancelled_and_cleared_frames_leave() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(2, 8));
    let late = queue.push(now, frame(1, 1, 1, now));
    assert_eq!(late[0].reason, DropReason::Expired);
    queue.push(now, frame(1, 2, 2, now + FOREVER));
    queue.push(now, frame(2, 3, 1, now + FOREVER));
    assert!(queue.cancel(CameraKey(1), FrameId(99)).is_none());
    assert!(queue.cancel(CameraKey(1), FrameId(2)).is_some());
    assert!(queue.cancel(CameraKey(1), FrameId(2)).is_none());
    assert_eq!(queue.cameras(), 1);
    assert_eq!(ids(&queue.clear()), [3]);
    assert_eq!((queue.len(), queue.cameras()), (0, 0));
}

/// The claim of the policy in the words a person would use: a camera at one frame a second is answered
/// as if the one at sixty were not there.
#[test]
fn sixty_frames_a_second_cannot_starve_one() {
    let start = Instant::now();
    let mut queue = Queue::new(limits(2, 64));
    let (mut slow_sent, mut slow_served) = (0, 0);
    for tick in 0..600u64 {
        let now = start + Duration::from_millis(tick * 1000 / 60);
        queue.push(now, frame(1, tick, tick, now + FOREVER));
        if tick % 60 == 0 {
            queue.push(now, frame(2, 10_000 + tick, tick, now + FOREVER));
            slow_sent += 1;
        }
        if tick % 12 == 0 {
            // Five frames a second for sixty-one offered.
            slow_served += queue.take(now, 1).iter().filter(|entry| entry.camera == CameraKey(2)).count();
        }
    }
    slow_served += queue.take(start, 8).iter().filter(|entry| entry.camera == CameraKey(2)).count();
    assert_eq!((slow_sent, slow_served), (10, 10));
}

#[derive(Debug, Clone)]
enum Step {
    Push { camera: u64, seq: u64, lives_ms: u64 },
    Take { max: usize },
    Cancel { nth: usize },
    Wait { ms: u64 },
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u64, 0..40u64, 0..80u64).prop_map(|(camera, seq, lives_ms)| Step::Push { camera, seq, lives_ms }),
        2 => (0..5usize).prop_map(|max| Step::Take { max }),
        1 => (0..64usize).prop_map(|nth| Step::Cancel { nth }),
        2 => (0..40u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Expire),
    ]
}

/// What an outside observer knows: which frames wait, whose they are, and since when in the turn order.
#[derive(Default)]
struct Observer {
    waiting: BTreeMap<u64, (u64, u64, Instant)>,
    left: BTreeSet<u64>,
}

impl Observer {
    fn leaves(&mut self, entry: &Entry<()>) -> (u64, u64, Instant) {
        assert!(self.left.insert(entry.id.0), "frame {} left twice", entry.id.0);
        self.waiting.remove(&entry.id.0).expect("only frames that wait can leave")
    }

    fn of(&self, camera: u64) -> impl Iterator<Item = u64> {
        self.waiting.values().filter(move |waiting| waiting.0 == camera).map(|waiting| waiting.1)
    }

    fn cameras(&self) -> BTreeSet<u64> {
        self.waiting.values().map(|waiting| waiting.0).collect()
    }

    fn dropped(&mut self, dropped: &[Dropped<()>], now: Instant, limits: Limits) {
        for Dropped { entry, reason } in dropped {
            let full = self.waiting.len() > limits.total;
            let (camera, seq, deadline) = self.leaves(entry);
            match reason {
                DropReason::Superseded => {
                    assert_eq!(self.of(camera).filter(|&newer| newer >= seq).count(), limits.per_camera);
                }
                DropReason::Expired => assert!(deadline <= now),
                DropReason::Overloaded => {
                    assert!(full, "shed only when full");
                    assert!(self.of(camera).all(|other| other >= seq), "sheds the camera's oldest");
                    let mine = self.of(camera).count() + 1;
                    assert!(self.cameras().iter().all(|&other| self.of(other).count() <= mine));
                }
                DropReason::Draining => panic!("the queue knows nothing of draining"),
            }
        }
    }

    fn taken(&mut self, batch: &[Entry<()>], now: Instant, max: usize) {
        assert!(batch.len() <= max);
        let mut counts = BTreeMap::<u64, usize>::new();
        for entry in batch {
            let (camera, seq, deadline) = self.leaves(entry);
            assert!(deadline > now, "an expired frame is not worth the device's time");
            let older_alive = self.waiting.values().any(|&(c, s, d)| c == camera && s < seq && d > now);
            assert!(!older_alive, "a camera's frames go in order");
            *counts.entry(camera).or_default() += 1;
        }
        let alive = |camera: u64| self.waiting.values().any(|&(c, _, d)| c == camera && d > now);
        let most = counts.values().copied().max().unwrap_or(0);
        for camera in self.cameras().into_iter().filter(|&camera| alive(camera)) {
            let got = counts.get(&camera).copied().unwrap_or(0);
            assert!(got + 1 >= most, "camera {camera} still waits, got {got}, another got {most}");
            assert_eq!(batch.len(), max, "frames wait while the batch has room");
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_unbounded(
        per_camera in 1..4usize, total in 1..9usize, steps in prop::collection::vec(step(), 1..200)
    ) {
        let limits = limits(per_camera, total);
        let mut queue = Queue::new(limits);
        let mut seen = Observer::default();
        let mut now = Instant::now();
        for (id, step) in (0u64..).zip(steps) {
            match step {
                Step::Push { camera, seq, lives_ms } => {
                    let deadline = now + Duration::from_millis(lives_ms);
                    seen.waiting.insert(id, (camera, seq, deadline));
                    let dropped = queue.push(now, frame(camera, id, seq, deadline));
                    seen.dropped(&dropped, now, limits);
                }
                Step::Take { max } => {
                    let batch = queue.take(now, max);
                    seen.taken(&batch, now, max);
                }
                Step::Cancel { nth } => {
                    let Some((&id, &(camera, ..))) = seen.waiting.iter().nth(nth) else { continue };
                    let entry = queue.cancel(CameraKey(camera), FrameId(id)).expect("it waits");
                    seen.leaves(&entry);
                }
                Step::Wait { ms } => now += Duration::from_millis(ms),
                Step::Expire => {
                    let dropped = queue.expire(now);
                    seen.dropped(&dropped, now, limits);
                    prop_assert!(seen.waiting.values().all(|waiting| waiting.2 > now));
                }
            }
            prop_assert_eq!(queue.len(), seen.waiting.len());
            prop_assert_eq!(queue.cameras(), seen.cameras().len());
            prop_assert!(queue.len() <= total);
            prop_assert_eq!(queue.turns.len(), queue.cameras(), "one turn a camera: memory follows the frames");
            prop_assert_eq!(queue.had, 0, "a turn of one frame is over with it");
            for camera in seen.cameras() {
                prop_assert!(seen.of(camera).count() <= per_camera);
            }
        }
        for entry in queue.clear() {
            seen.leaves(&entry);
        }
        prop_assert!(seen.waiting.is_empty());
    }

    /// The bound in numbers: once its first frame waits, a camera is served within one turn of all others, whatever those
    /// push meanwhile and however small the batches are.
    #[test]
    fn a_camera_waits_at_most_one_turn_of_the_others(
        weights in prop::collection::vec(1..5u16, 1..6), burst in 1..8u64, max in 1..4usize, depth in 1..4usize
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(limits(depth, 64));
        let mut id = 0;
        let mut flood = |queue: &mut Queue<()>| {
            for (camera, weight) in (1..).zip(&weights) {
                for _ in 0..burst {
                    id += 1;
                    queue.push(now, weighted(camera, *weight, id, id, now + FOREVER));
                }
            }
        };
        flood(&mut queue);
        queue.push(now, frame(0, 1_000_000, 0, now + FOREVER));
        let mut served_before = 0_u16;
        'serving: loop {
            let batch = queue.take(now, max);
            prop_assert!(!batch.is_empty());
            for entry in &batch {
                if entry.camera == CameraKey(0) {
                    break 'serving;
                }
                served_before += 1;
            }
            flood(&mut queue);
        }
        let turns: u16 = weights.iter().sum();
        prop_assert!(served_before <= turns, "{served_before} frames came before, of {weights:?} a turn");
    }

    /// All of a batch are in time, unless it is one frame that could not be.
    #[test]
    fn what_is_taken_in_time_is_in_time(
        deadlines in prop::collection::vec((0..6_u64, 1..3_000_u64), 1..40), max in 1..40usize, each in 1..500_u64
    ) {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut queue = Queue::new(limits(40, 64));
        for (id, (camera, deadline)) in (0..).zip(&deadlines) {
            queue.push(now, frame(*camera, id, id, now + ms(*deadline)));
        }
        let batch = queue.take_in_time(now, max, ms(each));
        let done = now + ms(each) * u32::try_from(batch.len()).unwrap();
        let in_time = batch.iter().all(|entry| entry.deadline >= done);
        prop_assert!(!batch.is_empty() && batch.len() <= max && (in_time || batch.len() == 1));
        prop_assert_eq!(batch.len() + queue.len(), deadlines.len());
    }

    /// Cameras that always have frames waiting get what their weights say, to within one turn.
    #[test]
    fn service_is_shared_by_weight(
        weights in prop::collection::vec(1..5u16, 2..5), max in 1..5usize, batches in 1..60usize
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(limits(8, 64));
        let (mut id, mut served) = (0, vec![0_i64; weights.len()]);
        for _ in 0..batches {
            for (camera, weight) in (0..).zip(&weights) {
                for _ in 0..8 {
                    id += 1;
                    queue.push(now, weighted(camera, *weight, id, id, now + FOREVER));
                }
            }
            for entry in queue.take(now, max) {
                served[entry.camera.0 as usize] += 1;
            }
        }
        let rounds = |camera: usize| served[camera] as f64 / f64::from(weights[camera]);
        for camera in 1..weights.len() {
            prop_assert!((rounds(camera) - rounds(0)).abs() <= 1.0, "{served:?} for {weights:?}");
        }
    }
}
