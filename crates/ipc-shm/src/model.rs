//! The ring under loom: every order in which the steps of server and peers can interleave, and every
//! value that a load may then see.
//!
//! Sleeping has no time limit here, so a lost wake-up is a deadlock, which loom reports. Block bytes
//! are loom's cells, so a block that is filled while a peer reads it is reported too.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ipc-shm --lib --release`

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::ring::{Consumer, Producer, Ready, Shared};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The segment and the semaphore, as far as the ring knows them.
struct Model {
    sequence_number: AtomicU32,
    awaited: AtomicU64,
    block_lengths: Vec<AtomicU32>,
    blocks: Vec<Block>,
    number_of_reads: Vec<AtomicU32>,
    idle_since: Vec<AtomicU64>,
    posted_at: Vec<AtomicU64>,
    /// Nothing in most models, which would take minutes with more to look at.
    detached: Vec<AtomicU32>,
    /// The kernel's lock around looking at a futex and going to sleep on it.
    futex: Mutex<()>,
    wake_up: Condvar,
    semaphore: Mutex<u32>,
    posted: Condvar,
}

/// A block of one byte, so to speak.
enum Block {
    /// loom's cell: checks that nobody has access while it is written.
    Exclusive(UnsafeCell<u32>),
    /// A block that may be filled anew while a detached peer reads it, which shall only be noticed.
    Shared(AtomicU32),
}

impl Block {
    fn write(&self, value: u32) {
        match self {
            // SAFETY: loom's cell checks that nobody else has access.
            Self::Exclusive(cell) => cell.with_mut(|block| unsafe { *block = value }),
            Self::Shared(block) => block.store(value, Ordering::Relaxed),
        }
    }

    fn read(&self) -> u32 {
        match self {
            // SAFETY: loom's cell checks that nobody writes meanwhile.
            Self::Exclusive(cell) => cell.with(|block| unsafe { *block }),
            Self::Shared(block) => block.load(Ordering::Relaxed),
        }
    }
}

impl Model {
    fn new(peers: u32, blocks: u32, detaches: bool) -> Arc<Self> {
        let words = |count: u32| (0..count).map(|_| AtomicU32::new(0)).collect();
        let block = |_| match detaches {
            false => Block::Exclusive(UnsafeCell::new(0)),
            true => Block::Shared(AtomicU32::new(0)),
        };
        Arc::new(Self {
            sequence_number: AtomicU32::new(0),
            awaited: AtomicU64::new(0),
            block_lengths: words(blocks),
            blocks: (0..blocks).map(block).collect(),
            number_of_reads: words(peers),
            idle_since: (0..peers).map(|_| AtomicU64::new(0)).collect(),
            posted_at: (0..peers).map(|_| AtomicU64::new(0)).collect(),
            detached: words(if detaches { peers } else { 0 }),
            futex: Mutex::new(()),
            wake_up: Condvar::new(),
            semaphore: Mutex::new(0),
            posted: Condvar::new(),
        })
    }
}

impl Shared for &Model {
    fn sequence_number(&self) -> &AtomicU32 {
        &self.sequence_number
    }
    fn awaited(&self) -> &AtomicU64 {
        &self.awaited
    }
    fn block_length(&self, slot: u32) -> &AtomicU32 {
        &self.block_lengths[slot as usize]
    }
    fn number_of_reads(&self, peer: u32) -> &AtomicU32 {
        &self.number_of_reads[peer as usize]
    }
    fn idle_since(&self, peer: u32) -> &AtomicU64 {
        &self.idle_since[peer as usize]
    }
    fn posted_at(&self, peer: u32) -> &AtomicU64 {
        &self.posted_at[peer as usize]
    }
    fn detached(&self, peer: u32) -> Option<&AtomicU32> {
        self.detached.get(peer as usize)
    }
    fn now(&self) -> u64 {
        1
    }

    fn sleep_while(&self, seen: u32) {
        let lock = self.futex.lock().unwrap();
        if self.sequence_number.load(Ordering::Relaxed) == seen {
            drop(self.wake_up.wait(lock).unwrap());
        }
    }
    fn wake_sleepers(&self) {
        let _lock = self.futex.lock().unwrap();
        self.wake_up.notify_all();
    }
    fn longest_sleep(&self) -> u64 {
        1
    }
    fn sleep_until_post(&self) {
        let mut posts = self.semaphore.lock().unwrap();
        while *posts == 0 {
            posts = self.posted.wait(posts).unwrap();
        }
        *posts -= 1;
    }
    fn post(&self) {
        *self.semaphore.lock().unwrap() += 1;
        self.posted.notify_one();
    }
}

/// Publishes blocks of one byte that hold 1, 2, ... `last`, `batch` at once where they are side by
/// side, to those peers whose word in `dead` is 0. Detaches peer 0 once so many bytes are published.
fn serve(
    model: &Model,
    peers: u32,
    batch: u32,
    last: u32,
    dead: &[AtomicU32],
    detach_at: Option<u32>,
) {
    let count = u32::try_from(model.blocks.len()).unwrap();
    let mut ring = Producer::new(model, peers, count, 1);
    let room = |ring: &mut Producer<&Model>, blocks| loop {
        let gone = |&peer: &u32| dead[peer as usize].load(Ordering::Acquire) == 1;
        let gone: Vec<u32> = ring.live().filter(gone).collect();
        gone.into_iter().for_each(|peer| ring.leave_out(peer));
        if ring.wait_for_room(blocks).unwrap() {
            break;
        }
    };
    let (mut value, mut ended) = (0, false);
    while value < last {
        if detach_at.is_some_and(|at| value >= at) {
            ring.detach(0);
        }
        room(&mut ring, batch);
        let blocks = ring.reserve(batch);
        let (first, count) = blocks.slots();
        let filled = count.min(last - value);
        for slot in first..first + filled {
            value += 1;
            model.blocks[slot as usize].write(value);
        }
        ended = blocks.publish(filled as usize, value == last);
    }
    if !ended {
        room(&mut ring, 1);
        assert!(ring.reserve(1).publish(0, true));
    }
}

/// Reads everything up to `last`, or dies after `steps` looks that found blocks. Returns the last value
/// that is known to be right.
fn receive(model: &Model, peer: u32, steps: usize, last: u32) -> u32 {
    let count = u32::try_from(model.blocks.len()).unwrap();
    let mut ring = Consumer::new(model, peer, count, 1);
    let (mut seen, mut step) = (0, 0);
    loop {
        match ring.ready().unwrap() {
            Ready::End => {
                assert_eq!(seen, last);
                return seen;
            }
            Ready::Detached => return seen,
            Ready::Nothing => ring.sleep(),
            Ready::Blocks(_) if step == steps => return seen,
            Ready::Blocks(blocks) => {
                step += 1;
                let (first, bytes) = blocks.bytes();
                let slots = first..first + u32::try_from(bytes).unwrap();
                let read: Vec<u32> = slots.map(|slot| model.blocks[slot as usize].read()).collect();
                if blocks.release() {
                    for value in read {
                        assert_eq!(value, seen + 1);
                        seen = value;
                    }
                }
            }
        }
    }
}

/// Most interruptions of running threads in one execution: a third makes minutes of seconds. Each of
/// the lost wake-ups that these models have found took one.
const PREEMPTIONS: usize = 2;

/// One server, and a peer for each of `steps`, which dies after so many steps.
fn check(blocks: u32, batch: u32, last: u32, steps: &'static [usize]) {
    explore(blocks, batch, last, steps, None);
}

/// The same, but peer 0 is detached once `at` bytes are published.
fn check_detached(blocks: u32, batch: u32, last: u32, steps: &'static [usize], at: u32) {
    explore(blocks, batch, last, steps, Some(at));
}

fn explore(blocks: u32, batch: u32, last: u32, steps: &'static [usize], detach_at: Option<u32>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let peers = u32::try_from(steps.len()).unwrap();
        let model = Model::new(peers, blocks, detach_at.is_some());
        let dead: Arc<Vec<AtomicU32>> = Arc::new(steps.iter().map(|_| AtomicU32::new(0)).collect());
        let receivers: Vec<_> = (0..peers)
            .zip(steps)
            .map(|(peer, &steps)| {
                let (model, dead) = (model.clone(), dead.clone());
                thread::spawn(move || {
                    let seen = receive(&model, peer, steps, last);
                    if steps == usize::MAX && (detach_at.is_none() || peer > 0) {
                        assert_eq!(seen, last);
                    } else {
                        dead[peer as usize].store(1, Ordering::Release);
                        // The slice of time that the server sleeps at most is over.
                        (&*model).post();
                    }
                })
            })
            .collect();
        serve(&model, peers, batch, last, &dead, detach_at);
        for receiver in receivers {
            receiver.join().unwrap();
        }
    });
}

const LIVES: usize = usize::MAX;

#[test]
fn lockstep() {
    check(1, 1, 3, &[LIVES]);
}

#[test]
fn lockstep_of_two_peers() {
    check(1, 1, 2, &[LIVES, LIVES]);
}

#[test]
fn a_ring_that_wraps() {
    check(2, 1, 4, &[LIVES]);
}

#[test]
fn two_blocks_at_once() {
    check(2, 2, 4, &[LIVES]);
}

#[test]
fn two_peers_and_a_ring_that_wraps() {
    check(2, 1, 3, &[LIVES, LIVES]);
}

#[test]
fn a_peer_that_dies_at_once_holds_nobody_up() {
    check(1, 1, 2, &[LIVES, 0]);
}

#[test]
fn a_peer_that_dies_in_the_middle_holds_nobody_up() {
    check(2, 1, 3, &[1, LIVES]);
}

#[test]
fn the_server_ends_when_the_only_peer_has_died() {
    check(1, 1, 3, &[1]);
}

#[test]
fn the_only_peer_is_detached_and_trusts_nothing_that_was_filled_anew() {
    check_detached(1, 1, 3, &[LIVES], 1);
}

#[test]
fn the_only_peer_is_detached_as_it_falls_asleep_and_nothing_is_published_any_more() {
    loom::model(|| {
        let model = Model::new(1, 1, true);
        let peer = {
            let model = model.clone();
            thread::spawn(move || {
                let mut ring = Consumer::new(&*model, 0, 1, 1);
                loop {
                    match ring.ready().unwrap() {
                        Ready::Detached => break,
                        Ready::Nothing => ring.sleep(),
                        Ready::End => unreachable!(),
                        Ready::Blocks(blocks) => drop(blocks.release()),
                    }
                }
            })
        };
        let mut ring = Producer::new(&*model, 1, 1, 1);
        assert!(!ring.reserve(1).publish(1, false));
        ring.detach(0);
        ring.wake_detached();
        peer.join().unwrap();
    });
}

#[test]
fn a_peer_is_detached_while_it_reads_several_blocks() {
    check_detached(2, 1, 4, &[LIVES], 2);
}

#[test]
fn a_peer_that_is_detached_at_once_holds_nobody_up() {
    check_detached(1, 1, 2, &[LIVES, LIVES], 0);
}

#[test]
fn a_peer_that_is_detached_in_the_middle_holds_nobody_up() {
    check_detached(2, 1, 3, &[LIVES, LIVES], 1);
}
