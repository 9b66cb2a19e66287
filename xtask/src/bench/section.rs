//! The sections of the bench: what is measured with which loads, and why.

use serde::Serialize;

use super::contender::Contender;
use super::load::Load;
use super::units::{GIB, KIB, MIB};
use crate::build::Program::{SharedMemory, Socket};

/// One question, and the loads that answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Section {
    /// A large file to a few peers, beside everything else that can copy one to many
    Large,
    /// From one peer to many
    Peers,
    /// From a small file to one far larger than all caches and buffers
    Sizes,
    /// A small file, where all that counts is processes
    Small,
    /// A large file that must be on disk at the end, so that nothing is left to the page cache
    Sync,
    /// A peer that is stopped most of the time, beside others that are not
    Slow,
}

/// A load, and everybody who is measured with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heat {
    pub(crate) load: Load,
    pub(crate) contenders: Vec<Contender>,
}

const SOCKET: Contender = Contender::Program(Socket);
const SHARED_MEMORY: Contender = Contender::Program(SharedMemory);

const EVERYBODY: &[Contender] = &[
    SHARED_MEMORY,
    SOCKET,
    Contender::Lockstep,
    Contender::Limit,
    Contender::Cp,
    Contender::Tee,
    Contender::Pee,
    Contender::Mbuffer,
    Contender::Dcfldd,
];
const OVER_PEERS: &[Contender] =
    &[SHARED_MEMORY, SOCKET, Contender::Limit, Contender::Cp, Contender::Tee];
const BESIDE_CP: &[Contender] = &[SHARED_MEMORY, SOCKET, Contender::Cp];
const MANY_SMALL: &[Contender] = &[SHARED_MEMORY, SOCKET, Contender::Forks, Contender::CpByEight];
const SYNCED: &[Contender] =
    &[Contender::Synced(SharedMemory), Contender::Synced(Socket), Contender::DdFsync];
const BESIDE_SLOW: &[Contender] = &[
    Contender::Undisturbed(SharedMemory),
    Contender::BesideSlow(SharedMemory),
    Contender::Undisturbed(Socket),
    Contender::BesideSlow(Socket),
];

const PEERS: &[usize] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];
const QUICK_PEERS: &[usize] = &[1, 8, 64];

const SIZES: &[u64] = &[4 * KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB];
const QUICK_SIZES: &[u64] = &[4 * KIB, MIB, 64 * MIB, 256 * MIB];

impl Section {
    pub(crate) const ALL: [Self; 6] =
        [Self::Large, Self::Peers, Self::Sizes, Self::Small, Self::Sync, Self::Slow];

    /// What it answers.
    pub(crate) fn question(self) -> &'static str {
        match self {
            Self::Large => "How long does a large file take, by each means?",
            Self::Peers => "How does the time grow with the number of peers?",
            Self::Sizes => "How do time and memory grow with the size of the file?",
            Self::Small => "How long does it take if there is hardly anything to copy?",
            Self::Sync => "How long does it take until all copies are on disk?",
            Self::Slow => "How long do three peers take if a fourth is slow?",
        }
    }

    /// Its loads; if it is to be quick, smaller and fewer ones.
    pub(crate) fn heats(self, quick: bool) -> Vec<Heat> {
        let large = if quick { 64 * MIB } else { 256 * MIB };
        match self {
            Self::Large => heats(&[1, 4, 8], &[large], EVERYBODY),
            Self::Peers => heats(if quick { QUICK_PEERS } else { PEERS }, &[8 * MIB], OVER_PEERS),
            Self::Sizes => heats(&[2], if quick { QUICK_SIZES } else { SIZES }, BESIDE_CP),
            Self::Small => {
                [heats(&[1], &[4 * KIB], BESIDE_CP), heats(&[1000], &[4 * KIB], MANY_SMALL)]
                    .concat()
            }
            Self::Sync => heats(&[1, 4], &[large], SYNCED),
            Self::Slow => heats(&[3], &[256 * MIB], BESIDE_SLOW),
        }
    }
}

/// Every size to every number of peers, each with the same contenders.
fn heats(peers: &[usize], sizes: &[u64], contenders: &[Contender]) -> Vec<Heat> {
    let loads =
        peers.iter().flat_map(|&peers| sizes.iter().map(move |&bytes| Load { peers, bytes }));
    loads.map(|load| Heat { load, contenders: contenders.to_vec() }).collect()
}
