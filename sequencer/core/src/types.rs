//! The small words of the protocol as types, so that a height is never a timestamp and a chain id never a count.

use alloy_primitives::B256;
use alloy_rlp::{BufMut, Decodable, Encodable};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl Encodable for $name {
            fn encode(&self, out: &mut dyn BufMut) {
                self.0.encode(out);
            }
            fn length(&self) -> usize {
                self.0.length()
            }
        }
        impl Decodable for $name {
            fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
                <$repr>::decode(bytes).map(Self)
            }
        }
    };
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub B256);

        impl $name {
            /// 32 zero bytes: "none" where a format says so.
            pub const ZERO: Self = Self(B256::ZERO);
        }
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl Encodable for $name {
            fn encode(&self, out: &mut dyn BufMut) {
                self.0.encode(out);
            }
            fn length(&self) -> usize {
                self.0.length()
            }
        }
        impl Decodable for $name {
            fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
                B256::decode(bytes).map(Self)
            }
        }
    };
}

number! {
    /// Position in the log. Height 0 is the genesis; the first decided block has height 1.
    Height, u64
}
number! {
    /// Round of a height, counted from 0.
    Round, u32
}
number! {
    /// EIP-155 chain id, which is also the chain's namespace in the log; 0 is the network's own (governance).
    ChainId, u64
}
number! {
    /// Milliseconds since 1970-01-01 UTC.
    UnixMillis, u64
}
number! {
    /// Which run of its lane an owner is in; strictly greater after each start of the owner.
    Incarnation, u64
}
number! {
    /// Position of a batch within one run of a lane, counted from 0.
    Sequence, u64
}

digest! {
    /// Hash of the genesis. Everything signed in a network commits to it.
    NetworkId
}
digest! {
    /// Hash of a log block's header: the value that consensus decides.
    BlockHash
}
digest! {
    /// Hash of an entry's body, without its expiry and its gateway's signature.
    EntryId
}
digest! {
    /// Hash of a batch, which its owner signs and its successor names.
    BatchDigest
}

impl Height {
    /// The genesis' height.
    pub const GENESIS: Self = Self(0);

    /// The height after this one; saturates at the greatest.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The height before this one, `None` for the genesis.
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(height) => Some(Self(height)),
            None => None,
        }
    }
}

impl Sequence {
    /// The sequence after this one; saturates at the greatest.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl UnixMillis {
    /// This time plus `ms`; saturates at the greatest.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl ChainId {
    /// The network's own namespace.
    pub const NETWORK: Self = Self(0);
}

#[cfg(test)]
mod tests;
