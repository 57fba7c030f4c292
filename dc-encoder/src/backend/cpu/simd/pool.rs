//! A few threads that share out the tasks of one stage, and wait for the next one close by.
//!
//! ```text
//! caller   publish (round, tasks) ─► take tasks ─► wait for the last one ─► next stage
//! worker   spin, then sleep ────────► take tasks ──────────────────────────► spin …
//! ```
//! A frame is some eighty stages of a millisecond or less: waking a sleeping thread for each would cost several per
//! cent. Whoever is free takes the next task, so a thread that was sent away by the system delays one task only.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Turns of waiting before a worker sleeps: a few hundred microseconds, longer than between two stages of a frame.
const SPIN: u32 = 20_000;
/// Turns after which a waiting thread offers its processor to others, now and then.
const POLITE: u32 = 2_000;
/// Most tasks of one stage: sixteen bits of the ticket.
const MAX_TASKS: usize = (1 << 16) - 1;

type Job = *const (dyn Fn(usize, usize) + Sync);

/// What the threads share.
struct Core {
    /// Round (32 bits), tasks of the round (16), next task (16): taking one is a single exchange, which fails if
    /// the round is over.
    ticket: AtomicU64,
    /// Tasks of this round that are finished.
    done: AtomicUsize,
    /// What to do with a task; valid while the round has unfinished tasks.
    job: UnsafeCell<Option<Job>>,
    panicked: AtomicBool,
    ending: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written by the caller alone and only while no task is unfinished; it is read only by a thread that
// took a task, which keeps the round open. The closure behind it is `Sync`.
unsafe impl Sync for Core {}
// SAFETY: as above; the pointer is not tied to a thread.
unsafe impl Send for Core {}

impl Core {
    /// Takes tasks until none is left.
    fn work(&self, worker: usize) {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let (tasks, next) = ((ticket >> 16) & 0xffff, ticket & 0xffff);
            if next >= tasks {
                return;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: task `next` is taken and not done, so the caller of `run` still waits: the job was
                    // written before the ticket was published, and lives until `run` returns.
                    let job = unsafe { &*(*self.job.get()).expect("a round has a job") };
                    let outcome = catch_unwind(AssertUnwindSafe(|| job(worker, next as usize)));
                    if outcome.is_err() {
                        self.panicked.store(true, Ordering::Relaxed);
                    }
                    self.done.fetch_add(1, Ordering::Release);
                    ticket = self.ticket.load(Ordering::Acquire);
                }
                Err(now) => ticket = now,
            }
        }
    }

    fn has_work(&self) -> bool {
        let ticket = self.ticket.load(Ordering::SeqCst);
        (ticket & 0xffff) < ((ticket >> 16) & 0xffff)
    }

    /// A worker's life.
    fn serve(&self, worker: usize) {
        while !self.ending.load(Ordering::Relaxed) {
            self.work(worker);
            let mut turns = 0;
            while !self.has_work() && !self.ending.load(Ordering::Relaxed) {
                turns += 1;
                if turns < SPIN { pause(turns) } else { self.sleep() }
            }
        }
    }

    fn sleep(&self) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.has_work() && !self.ending.load(Ordering::Relaxed) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake_all(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }
}

fn pause(turns: u32) {
    if turns.is_multiple_of(POLITE) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

/// Threads, each with scratch memory of its own.
pub struct Pool<S> {
    core: Arc<Core>,
    workers: Vec<JoinHandle<()>>,
    scratch: Vec<Scratch<S>>,
    round: u32,
}

/// Scratch of one thread.
struct Scratch<S>(UnsafeCell<S>);

// SAFETY: thread `i` alone touches scratch `i` while a round runs, and nobody outside a round (`&mut Pool`).
unsafe impl<S: Send> Sync for Scratch<S> {}

impl<S: Send> Pool<S> {
    /// One thread for each scratch; the calling thread is the first.
    ///
    /// # Errors
    /// When the system gives no thread.
    ///
    /// # Panics
    /// Without any scratch.
    pub fn new(scratch: Vec<S>) -> std::io::Result<Self> {
        assert!(!scratch.is_empty(), "a pool has at least the calling thread");
        let core = Arc::new(Core {
            ticket: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let threads = scratch.len();
        let scratch = scratch.into_iter().map(|s| Scratch(UnsafeCell::new(s))).collect();
        let mut pool = Self { core, workers: Vec::new(), scratch, round: 0 };
        for worker in 1..threads {
            let core = Arc::clone(&pool.core);
            let spawn = std::thread::Builder::new().name(format!("encode-{worker}"));
            pool.workers.push(spawn.spawn(move || core.serve(worker))?);
        }
        Ok(pool)
    }

    /// Threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.scratch.len()
    }

    /// Calls `task(scratch, number)` for every number below `tasks`, each exactly once, and returns when all are done.
    ///
    /// # Panics
    /// When a task does.
    pub fn run(&mut self, tasks: usize, task: impl Fn(&mut S, usize) + Sync) {
        let mut first = 0;
        while first < tasks {
            let count = (tasks - first).min(MAX_TASKS);
            self.round(count, &|scratch, number| task(scratch, first + number));
            first += count;
        }
    }

    fn round(&mut self, tasks: usize, task: &(dyn Fn(&mut S, usize) + Sync)) {
        let scratch = &self.scratch;
        let job = move |worker: usize, number: usize| {
            // SAFETY: each thread passes its own number, and a thread runs one task at a time.
            task(unsafe { &mut *scratch[worker].0.get() }, number);
        };
        let job: &(dyn Fn(usize, usize) + Sync) = &job;
        // SAFETY: the lifetime is erased, but nobody follows the pointer after this function returns (see `work`):
        // it returns only when every task is done.
        let job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), Job>(job) };
        let core = &*self.core;
        core.done.store(0, Ordering::Relaxed);
        // SAFETY: no task is unfinished (the last round ended), so nobody reads the job now.
        unsafe { *core.job.get() = Some(job) };
        self.round = self.round.wrapping_add(1);
        core.ticket.store(u64::from(self.round) << 32 | (tasks as u64) << 16, Ordering::SeqCst);
        if core.sleepers.load(Ordering::SeqCst) > 0 {
            core.wake_all();
        }
        core.work(0);
        let mut turns = 0u32;
        while core.done.load(Ordering::Acquire) < tasks {
            turns = turns.wrapping_add(1);
            pause(turns);
        }
        if core.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a task of the encoder panicked"));
        }
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        self.core.ending.store(true, Ordering::Relaxed);
        self.core.wake_all();
        for worker in self.workers.drain(..) {
            // A worker catches what its tasks throw: there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl<S> std::fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.scratch.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_every_round_and_scratch_is_not_shared() {
        let mut pool = Pool::new(vec![Vec::new(), Vec::new(), Vec::new()]).unwrap();
        for round in 0..200 {
            let tasks = round * 7 % 50;
            let seen: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, |mine: &mut Vec<usize>, task| {
                mine.push(task);
                seen[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
        }
        let total: usize = (0..200).map(|round| round * 7 % 50).sum();
        let logged: usize = pool.scratch.iter_mut().map(|s| s.0.get_mut().len()).sum();
        assert_eq!(logged, total);
    }

    #[test]
    fn more_tasks_than_one_round_holds() {
        let mut pool = Pool::new(vec![0usize; 2]).unwrap();
        pool.run(MAX_TASKS + 10, |count, _| *count += 1);
        assert_eq!(pool.scratch.iter_mut().map(|s| *s.0.get_mut()).sum::<usize>(), MAX_TASKS + 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(vec![(); 2]).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(9, |(), task| assert_ne!(task, 5))));
        assert!(outcome.is_err());
        let ran = AtomicUsize::new(0);
        pool.run(9, |(), _| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.load(Ordering::Relaxed), 9);
    }
}
