//! Which frames wait, which leave unserved, and which go next: a pure policy, without clocks or threads.
//!
//! ```text
//! push ─► [camera 1: seq 8, 9]  ─┐ one turn per camera
//!         [camera 2: seq 4   ]  ─┼─► take(max) ─► served together
//!         [camera 3: seq 2, 3]  ─┘
//!            └─► superseded, expired, overloaded, cancelled: returned to the caller, never lost
//! ```
//! - **Newest wins**: a camera holds at most `per_camera` frames; beyond that its oldest leaves.
//! - **Fair**: cameras take turns, of as many frames as their weight says (weighted round robin, one unless set); a frame
//!   of a camera that had none waiting is served within one turn of every other camera that is waiting, however many frames
//!   those send. A weight is a priority under which nobody starves.
//! - **In time**: a batch is no larger than lets all its frames be answered before their deadlines.
//! - **Bounded**: at most `total` frames. When full, the camera with the most frames for its weight gives one up.
//! - **Every frame leaves once**: taken, dropped with a reason, or cancelled.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::DropReason;

/// How many frames may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Frames of one camera; at least 1.
    pub per_camera: usize,
    /// Frames of all cameras together; at least 1.
    pub total: usize,
}

/// One camera in the queue. A camera has one live session, so the session's number stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraKey(pub u64);

/// One frame in the process, unique among all cameras (a camera's own `seq` is not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u64);

/// A waiting frame and what it carries.
#[derive(Debug)]
pub struct Entry<T> {
    /// Whose frame it is.
    pub camera: CameraKey,
    /// Its number in this process.
    pub id: FrameId,
    /// The camera's sequence number: the greater, the newer.
    pub seq: u64,
    /// Frames of its camera in one turn; zero counts as one.
    pub weight: u16,
    /// From here on nobody wants the answer.
    pub deadline: Instant,
    /// What travels with the frame (its bytes, its reply channel).
    pub item: T,
}

/// A frame that left the queue unserved.
#[derive(Debug)]
pub struct Dropped<T> {
    /// The frame.
    pub entry: Entry<T>,
    /// Why, as its camera will read it.
    pub reason: DropReason,
}

/// Frames waiting for one stage.
///
/// Invariants: no camera in `waiting` is empty; `turns` holds each camera in `waiting` once; `len` is the
/// number of all frames; `had` is less than the first camera's weight.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    waiting: HashMap<CameraKey, VecDeque<Entry<T>>>,
    turns: VecDeque<CameraKey>,
    /// Frames that the first camera has had of its turn.
    had: u16,
    len: usize,
}

impl<T> Queue<T> {
    /// An empty queue. Limits of zero count as one: a queue that can hold nothing serves nobody.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { per_camera: limits.per_camera.max(1), total: limits.total.max(1) };
        Self { limits, waiting: HashMap::new(), turns: VecDeque::new(), had: 0, len: 0 }
    }

    /// Number of waiting frames.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of cameras with at least one waiting frame.
    pub fn cameras(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a frame; returns the frames that leave because of it (possibly this one), each with its reason.
    pub fn push(&mut self, now: Instant, entry: Entry<T>) -> Vec<Dropped<T>> {
        if entry.deadline <= now {
            return vec![Dropped { entry, reason: DropReason::Expired }];
        }
        let camera = entry.camera;
        self.insert(entry);
        if self.waiting.get(&camera).is_some_and(|frames| frames.len() > self.limits.per_camera) {
            return self.drop_oldest(camera, DropReason::Superseded);
        }
        if self.len <= self.limits.total {
            return Vec::new();
        }
        let expired = self.expire(now);
        if self.len <= self.limits.total {
            return expired;
        }
        let victim = self.longest(camera);
        self.drop_oldest(victim, DropReason::Overloaded)
    }

    /// Takes up to `max` frames, cameras in turn, each camera's oldest first. Expired frames are not taken:
    /// call [`expire`](Self::expire) first and answer them.
    pub fn take(&mut self, now: Instant, max: usize) -> Vec<Entry<T>> {
        self.take_in_time(now, max, Duration::ZERO)
    }

    /// [`take`](Self::take) where each frame of a batch takes this long, and all are done when the last one is: a
    /// frame that would come too late stays, and the batch ends where one more would make another late. Under
    /// overload a large batch would otherwise take longer than its frames are wanted, and nobody got an answer.
    /// A frame is taken in any case if some are in order: that it takes too long may have changed.
    pub fn take_in_time(&mut self, now: Instant, max: usize, each: Duration) -> Vec<Entry<T>> {
        let mut taken: Vec<Entry<T>> = Vec::with_capacity(max.min(self.len));
        let (mut passed_over, mut earliest) = (0, None::<Instant>);
        while taken.len() < max && passed_over < self.turns.len() {
            let done = now + each.saturating_mul(u32::try_from(taken.len() + 1).unwrap_or(u32::MAX));
            if earliest.is_some_and(|deadline| deadline < done) {
                break;
            }
            let Some(&camera) = self.turns.front() else { break };
            let Some(frames) = self.waiting.get_mut(&camera) else { break };
            let fresh = frames.iter().position(|entry| entry.deadline > done);
            let weight = match fresh.and_then(|index| frames.remove(index)) {
                Some(entry) => {
                    let weight = entry.weight;
                    earliest = Some(earliest.map_or(entry.deadline, |earliest| earliest.min(entry.deadline)));
                    taken.push(entry);
                    self.len -= 1;
                    self.had += 1;
                    passed_over = 0;
                    weight
                }
                None => {
                    passed_over += 1;
                    0
                }
            };
            if frames.is_empty() {
                self.waiting.remove(&camera);
                self.turns.pop_front();
                self.had = 0;
            } else if self.had >= weight {
                self.turns.rotate_left(1);
                self.had = 0;
            }
        }
        if taken.is_empty() && !each.is_zero() {
            return self.take(now, max.min(1));
        }
        taken
    }

    /// Removes the frames whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<Dropped<T>> {
        self.remove_if(|entry| entry.deadline <= now)
            .into_iter()
            .map(|entry| Dropped { entry, reason: DropReason::Expired })
            .collect()
    }

    /// Removes one frame: its camera no longer wants it. `None` when it is not waiting (any more).
    pub fn cancel(&mut self, camera: CameraKey, id: FrameId) -> Option<Entry<T>> {
        let frames = self.waiting.get_mut(&camera)?;
        let index = frames.iter().position(|entry| entry.id == id)?;
        let entry = frames.remove(index)?;
        self.len -= 1;
        self.forget_if_empty(camera);
        Some(entry)
    }

    /// Removes everything.
    pub fn clear(&mut self) -> Vec<Entry<T>> {
        self.remove_if(|_| true)
    }

    /// Sorted by `seq`: streams may complete out of order, and an older frame stays the older one.
    fn insert(&mut self, entry: Entry<T>) {
        let camera = entry.camera;
        let frames = self.waiting.entry(camera).or_default();
        if frames.is_empty() {
            self.turns.push_back(camera);
        }
        let at = frames.partition_point(|waiting| waiting.seq <= entry.seq);
        frames.insert(at, entry);
        self.len += 1;
    }

    fn drop_oldest(&mut self, camera: CameraKey, reason: DropReason) -> Vec<Dropped<T>> {
        let Some(entry) = self.waiting.get_mut(&camera).and_then(VecDeque::pop_front) else {
            return Vec::new();
        };
        self.len -= 1;
        self.forget_if_empty(camera);
        vec![Dropped { entry, reason }]
    }

    /// The camera with the most frames for its weight; `newcomer` when it has as many, so that nobody with fewer pays.
    fn longest(&self, newcomer: CameraKey) -> CameraKey {
        let load = |camera: &CameraKey| {
            let frames = self.waiting.get(camera);
            let weight = frames.and_then(VecDeque::back).map_or(1, |newest| newest.weight.max(1));
            (frames.map_or(0, VecDeque::len), usize::from(weight))
        };
        let longest = self.turns.iter().copied().max_by(|a, b| {
            let ((frames, weight), (others, their_weight)) = (load(a), load(b));
            let more = (frames * their_weight).cmp(&(others * weight));
            more.then((*a == newcomer).cmp(&(*b == newcomer)))
        });
        longest.unwrap_or(newcomer)
    }

    fn forget_if_empty(&mut self, camera: CameraKey) {
        if self.waiting.get(&camera).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&camera);
            self.keep_turns(|turn| turn != camera);
        }
    }

    fn remove_if(&mut self, leaves: impl Fn(&Entry<T>) -> bool) -> Vec<Entry<T>> {
        let mut gone = Vec::new();
        for frames in self.waiting.values_mut() {
            let (leaving, staying) = frames.drain(..).partition(|entry| leaves(entry));
            gone.extend::<VecDeque<_>>(leaving);
            *frames = staying;
        }
        self.waiting.retain(|_, frames| !frames.is_empty());
        let waiting = std::mem::take(&mut self.waiting);
        self.keep_turns(|camera| waiting.contains_key(&camera));
        self.waiting = waiting;
        self.len -= gone.len();
        gone
    }

    /// The turns of those cameras alone. Who comes first then has had nothing of its own yet.
    fn keep_turns(&mut self, stays: impl Fn(CameraKey) -> bool) {
        let first = self.turns.front().copied();
        self.turns.retain(|&camera| stays(camera));
        if self.turns.front().copied() != first {
            self.had = 0;
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
