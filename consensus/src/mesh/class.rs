//! The classes of frames, and every bound of the mesh that depends on the class.

use std::fmt;
use std::time::Duration;

use libp2p::PeerId;
use lockstep_core::limits::{BATCH_BYTES_MAX, FRAME_BYTES_MAX, PART_BYTES_MAX};

/// Bytes besides its payload that a frame may have: kinds, ids and the wrapping of the codec.
const WRAPPING_BYTES_MAX: usize = 4 << 10;
/// What each waiting frame counts besides its body's bytes, so that small frames are bounded in number, too.
pub(super) const FRAME_CHARGE_BYTES: usize = 1 << 10;

/// The pause after which an idle stream carries a heartbeat.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A connection ends when one of its streams carries nothing for so long.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What a frame is about, as far as it matters to the network: each class has streams of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Consensus messages, certificates and status: small, and never behind anything else.
    Votes,
    /// Parts of proposals.
    Parts,
    /// Batches, their acknowledgements, and requests for them.
    Lanes,
    /// Requests for decided values, and the answers.
    Sync,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Votes, Self::Parts, Self::Lanes, Self::Sync];

    /// Bytes of a frame's body. A longer one is refused at the sender, and garbage at the receiver.
    #[must_use]
    pub const fn frame_bytes_max(self) -> usize {
        self.limits().frame_bytes_max
    }

    /// The bounds of this class, each per peer.
    #[must_use]
    pub const fn limits(self) -> &'static Limits {
        match self {
            Self::Votes => &VOTES,
            Self::Parts => &PARTS,
            Self::Lanes => &LANES,
            Self::Sync => &SYNC,
        }
    }

    /// The class's word in protocol names and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Votes => "votes",
            Self::Parts => "parts",
            Self::Lanes => "lanes",
            Self::Sync => "sync",
        }
    }

    /// The connection that carries this class.
    #[must_use]
    pub const fn link(self) -> Link {
        match self {
            Self::Votes => Link::Votes,
            Self::Parts | Self::Lanes | Self::Sync => Link::Bulk,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two connections between a pair of validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Carries votes only; dialled by the smaller peer id.
    Votes,
    /// Carries everything else; dialled by the greater peer id.
    Bulk,
}

impl Link {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Votes, Self::Bulk];

    /// Which connection it is that `dialer` makes to `listener`.
    #[must_use]
    pub fn dialled(dialer: PeerId, listener: PeerId) -> Self {
        if dialer < listener { Self::Votes } else { Self::Bulk }
    }

    /// The classes it carries.
    #[must_use]
    pub const fn classes(self) -> &'static [Class] {
        match self {
            Self::Votes => &[Class::Votes],
            Self::Bulk => &[Class::Parts, Class::Lanes, Class::Sync],
        }
    }
}

/// The bounds of one class, each per peer.
///
/// What waits to be sent is mostly shared between peers (a broadcast is one buffer), so a node's memory is far
/// below the sum over its peers; what was received is not.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a frame's body.
    pub frame_bytes_max: usize,
    /// Frames that may wait to be sent.
    pub queue_frames_max: usize,
    /// Bytes that may wait to be sent.
    pub queue_bytes_max: usize,
    /// Bytes, and one KiB for each frame, that may wait to be taken by the consumer.
    pub inbox_bytes_max: usize,
    /// Frames read in a second, heartbeats included.
    pub frames_per_second: u32,
    /// Bytes read in a second.
    pub bytes_per_second: u32,
}

impl Limits {
    /// Frames that may wait to be taken by the consumer.
    #[must_use]
    pub const fn inbox_frames_max(&self) -> usize {
        self.inbox_bytes_max / FRAME_CHARGE_BYTES
    }

    /// Whether one frame of the greatest size passes every bound.
    const fn fits(&self) -> bool {
        self.frame_bytes_max <= self.queue_bytes_max
            && self.frame_bytes_max.saturating_add(FRAME_CHARGE_BYTES) <= self.inbox_bytes_max
            && self.queue_bytes_max <= u32::MAX as usize
            && self.inbox_bytes_max <= u32::MAX as usize
            && self.frames_per_second > 0
            && self.bytes_per_second > 0
    }
}

/// A vote has some 200 bytes and a round two of each validator; certificates are the greatest frames.
const VOTES: Limits = Limits {
    frame_bytes_max: 64 << 10,
    queue_frames_max: 4_096,
    queue_bytes_max: 4 << 20,
    inbox_bytes_max: 2 << 20,
    frames_per_second: 5_000,
    bytes_per_second: 8 << 20,
};
/// A proposal of the greatest size has less than 5 MiB: three of them may wait.
const PARTS: Limits = Limits {
    frame_bytes_max: PART_BYTES_MAX + WRAPPING_BYTES_MAX,
    queue_frames_max: 1_024,
    queue_bytes_max: 16 << 20,
    inbox_bytes_max: 8 << 20,
    frames_per_second: 5_000,
    bytes_per_second: 64 << 20,
};
/// Batches are half of a MiB at most; acknowledgements are small and many.
const LANES: Limits = Limits {
    frame_bytes_max: BATCH_BYTES_MAX + WRAPPING_BYTES_MAX,
    queue_frames_max: 4_096,
    queue_bytes_max: 16 << 20,
    inbox_bytes_max: 8 << 20,
    frames_per_second: 10_000,
    bytes_per_second: 64 << 20,
};
/// Few frames, each up to the protocol's greatest.
const SYNC: Limits = Limits {
    frame_bytes_max: FRAME_BYTES_MAX,
    queue_frames_max: 256,
    queue_bytes_max: 32 << 20,
    inbox_bytes_max: 16 << 20,
    frames_per_second: 1_000,
    bytes_per_second: 64 << 20,
};

const _: () = assert!(VOTES.fits() && PARTS.fits() && LANES.fits() && SYNC.fits());
const _: () = assert!(PARTS.frame_bytes_max <= FRAME_BYTES_MAX);
const _: () = assert!(LANES.frame_bytes_max <= FRAME_BYTES_MAX);
const _: () = assert!(SILENCE_MAX.as_secs() >= 3 * HEARTBEAT_INTERVAL.as_secs());

/// One value for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerClass<T> {
    /// Of [`Class::Votes`].
    pub votes: T,
    /// Of [`Class::Parts`].
    pub parts: T,
    /// Of [`Class::Lanes`].
    pub lanes: T,
    /// Of [`Class::Sync`].
    pub sync: T,
}

impl<T> PerClass<T> {
    /// The value that `make` gives for each class.
    pub fn from_fn(mut make: impl FnMut(Class) -> T) -> Self {
        Self {
            votes: make(Class::Votes),
            parts: make(Class::Parts),
            lanes: make(Class::Lanes),
            sync: make(Class::Sync),
        }
    }

    /// The value of `class`.
    pub const fn get(&self, class: Class) -> &T {
        match class {
            Class::Votes => &self.votes,
            Class::Parts => &self.parts,
            Class::Lanes => &self.lanes,
            Class::Sync => &self.sync,
        }
    }
}
