//! The ring under loom: every order in which the steps of server and peers can interleave, and every
//! value that a load may then see.
//!
//! Sleeping has no time limit here, so a lost wake-up is a deadlock, which loom reports. Block bytes
//! are loom's cells, so a block that is filled while a peer reads it is reported too.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ipc-shm --lib --release`

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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

/// A peer's view of the segment, in which it can die before anything that it does.
struct Mortal<'m> {
    model: &'m Model,
    /// Steps until then; `None` for one that lives.
    steps: Cell<Option<usize>>,
}

/// What unwinds a peer that dies. It has no destructor of its own on the way, as a killed process has none.
struct Death;

impl Mortal<'_> {
    /// One more step; the last one is not done any more.
    fn step(&self) -> &Model {
        match self.steps.get() {
            // Without the panic's message.
            Some(0) => resume_unwind(Box::new(Death)),
            steps => self.steps.set(steps.map(|steps| steps - 1)),
        }
        self.model
    }
}

impl Shared for &Mortal<'_> {
    fn sequence_number(&self) -> &AtomicU32 {
        &self.step().sequence_number
    }
    fn awaited(&self) -> &AtomicU64 {
        &self.step().awaited
    }
    fn block_length(&self, slot: u32) -> &AtomicU32 {
        &self.step().block_lengths[slot as usize]
    }
    fn number_of_reads(&self, peer: u32) -> &AtomicU32 {
        &self.step().number_of_reads[peer as usize]
    }
    fn idle_since(&self, peer: u32) -> &AtomicU64 {
        &self.step().idle_since[peer as usize]
    }
    fn posted_at(&self, peer: u32) -> &AtomicU64 {
        &self.step().posted_at[peer as usize]
    }
    fn detached(&self, peer: u32) -> Option<&AtomicU32> {
        // Not a step where there is no such word.
        if self.model.detached.is_empty() { None } else { self.step().detached.get(peer as usize) }
    }
    fn now(&self) -> u64 {
        self.model.now()
    }
    fn sleep_while(&self, seen: u32) {
        self.step().sleep_while(seen);
    }
    fn wake_sleepers(&self) {
        self.step().wake_sleepers();
    }
    fn sleep_until_post(&self) {
        self.step().sleep_until_post();
    }
    fn longest_sleep(&self) -> u64 {
        self.model.longest_sleep()
    }
    fn post(&self) {
        self.step().post();
    }
}

/// Publishes blocks of one byte that hold 1, 2, ... `last`, `batch` at once where they are side by
/// side, to those peers whose word in `gone` is 0. Detaches peer 0 once so many bytes are published.
fn serve(
    model: &Model,
    peers: u32,
    batch: u32,
    last: u32,
    gone: &[AtomicU32],
    detach_at: Option<u32>,
) {
    let count = u32::try_from(model.blocks.len()).unwrap();
    let mut ring = Producer::new(model, peers, count, 1);
    let room = |ring: &mut Producer<&Model>, blocks| loop {
        let is_gone = |&peer: &u32| gone[peer as usize].load(Ordering::Acquire) == 1;
        let gone: Vec<u32> = ring.live().filter(is_gone).collect();
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

/// Reads everything up to `last`. Returns the last value that is known to be right.
fn receive(mortal: &Mortal<'_>, peer: u32, last: u32) -> u32 {
    let count = u32::try_from(mortal.model.blocks.len()).unwrap();
    let mut ring = Consumer::new(mortal, peer, count, 1);
    let mut seen = 0;
    loop {
        match ring.ready().unwrap() {
            Ready::End => {
                assert_eq!(seen, last);
                return seen;
            }
            Ready::Detached => return seen,
            Ready::Nothing => ring.sleep(),
            Ready::Blocks(blocks) => {
                let (first, bytes) = blocks.bytes();
                let slots = first..first + u32::try_from(bytes).unwrap();
                let read = slots.map(|slot| mortal.step().blocks[slot as usize].read());
                let read: Vec<u32> = read.collect();
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

/// The same by a peer that dies after so many steps, if it takes as many; nothing of one that died.
fn live(model: &Model, peer: u32, steps: Option<usize>, last: u32) -> Option<u32> {
    let mortal = Mortal { model, steps: Cell::new(steps) };
    match catch_unwind(AssertUnwindSafe(|| receive(&mortal, peer, last))) {
        Ok(seen) => Some(seen),
        Err(death) if death.is::<Death>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// Most interruptions of running threads in one execution: a third makes minutes of seconds. Each of
/// the lost wake-ups that these models have found took one, and so there is one only where somebody can
/// die at each of its steps while another lives.
const PREEMPTIONS: usize = 2;

/// One server and so many peers, all of which live.
fn check(blocks: u32, batch: u32, last: u32, peers: u32) {
    assert!(!explore(Run { blocks, batch, last, peers, mortal: None, detach_at: None }));
}

/// The same, but peer 0 is detached once `at` bytes are published.
fn check_detached(blocks: u32, batch: u32, last: u32, peers: u32, at: u32) {
    assert!(!explore(Run { blocks, batch, last, peers, mortal: None, detach_at: Some(at) }));
}

/// One server and so many peers, the first of which dies: before its first step, before its second, and
/// so on up to its last. It is detached as well, if that is asked for.
fn check_deaths(blocks: u32, batch: u32, last: u32, peers: u32, detach_at: Option<u32>) {
    let dies = |&k: &usize| explore(Run { blocks, batch, last, peers, mortal: Some(k), detach_at });
    // Each block takes three steps at least.
    assert!((0..).take_while(dies).count() >= 3);
}

#[derive(Clone, Copy)]
struct Run {
    blocks: u32,
    batch: u32,
    last: u32,
    peers: u32,
    /// The steps after which peer 0 dies.
    mortal: Option<usize>,
    /// The bytes after which peer 0 is detached.
    detach_at: Option<u32>,
}

/// Tries all orders; says whether anybody has died in any of them.
fn explore(run: Run) -> bool {
    let Run { blocks, batch, last, peers, mortal, detach_at } = run;
    // Not loom's, as it outlives each order.
    let has_died = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let died = has_died.clone();
    let mut builder = loom::model::Builder::new();
    let fewer = usize::from(mortal.is_some() && peers > 1);
    builder.preemption_bound = Some(PREEMPTIONS - fewer);
    builder.check(move || {
        let model = Model::new(peers, blocks, detach_at.is_some());
        let gone: Arc<Vec<AtomicU32>> = Arc::new((0..peers).map(|_| AtomicU32::new(0)).collect());
        let receivers: Vec<_> = (0..peers)
            .map(|peer| {
                let (model, gone, died) = (model.clone(), gone.clone(), died.clone());
                thread::spawn(move || {
                    let seen = live(&model, peer, mortal.filter(|_| peer == 0), last);
                    if seen.is_none() {
                        died.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    if seen == Some(last) && (detach_at.is_none() || peer > 0) {
                        return;
                    }
                    assert_eq!(peer, 0);
                    gone[0].store(1, Ordering::Release);
                    // The slice of time that the server sleeps at most is over.
                    (&*model).post();
                })
            })
            .collect();
        serve(&model, peers, batch, last, &gone, detach_at);
        for receiver in receivers {
            receiver.join().unwrap();
        }
    });
    has_died.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn lockstep() {
    check(1, 1, 3, 1);
}

#[test]
fn lockstep_of_two_peers() {
    check(1, 1, 2, 2);
}

#[test]
fn a_ring_that_wraps() {
    check(2, 1, 4, 1);
}

#[test]
fn two_blocks_at_once() {
    check(2, 2, 4, 1);
}

#[test]
fn two_peers_and_a_ring_that_wraps() {
    check(2, 1, 3, 2);
}

#[test]
fn the_server_ends_wherever_the_only_peer_dies() {
    check_deaths(2, 1, 4, 1, None);
}

#[test]
fn a_peer_holds_nobody_up_wherever_it_dies_in_lockstep() {
    check_deaths(1, 1, 2, 2, None);
}

#[test]
fn a_peer_holds_nobody_up_wherever_it_dies_in_a_ring_that_wraps() {
    check_deaths(2, 1, 3, 2, None);
}

#[test]
fn a_peer_holds_nobody_up_wherever_it_dies_with_two_blocks_at_once() {
    check_deaths(2, 2, 4, 2, None);
}

#[test]
fn a_detached_peer_holds_nobody_up_wherever_it_dies() {
    check_deaths(2, 1, 3, 2, Some(1));
}

#[test]
fn the_only_peer_is_detached_and_trusts_nothing_that_was_filled_anew() {
    check_detached(1, 1, 3, 1, 1);
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
    check_detached(2, 1, 4, 1, 2);
}

#[test]
fn a_peer_that_is_detached_at_once_holds_nobody_up() {
    check_detached(1, 1, 2, 2, 0);
}

#[test]
fn a_peer_that_is_detached_in_the_middle_holds_nobody_up() {
    check_detached(2, 1, 3, 2, 1);
}
