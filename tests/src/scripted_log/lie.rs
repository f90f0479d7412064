//! The lies of the sidecar's tests, by name.

use alloy_primitives::Bytes;
use lockstep_core::slice::Content;
use lockstep_proto::convert::log::ProvenSlice;
use lockstep_test_log::Lies;
use lockstep_test_log::keys::{certify, set_of, strangers};

/// What is changed of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Another item in the place of a slice's first.
    ForgedItem,
    /// A slice without its last item.
    MissingItem,
    /// A certificate of keys that are no validators.
    WrongCertificate,
    /// A header that names the strangers as its set, certified by them.
    WrongSet,
    /// The slice of the height after the one that is asked for.
    OtherHeight,
    /// A range that ends one height too soon, as if there were no more. Nothing shows that it is a lie.
    ShortRange,
    /// A range with a certificate of keys that are no validators, while all it streams is true.
    ForgedRange,
}

impl Lie {
    /// What a liar does.
    #[must_use]
    pub fn lies(self) -> Lies<()> {
        let honest = Lies::NONE;
        match self {
            Self::ForgedItem => Lies { slice: forge_item, ..honest },
            Self::MissingItem => Lies { slice: drop_item, ..honest },
            Self::WrongCertificate => Lies {
                block: |(), block| block.certificate = certify(&strangers(), &block.header),
                ..honest
            },
            Self::WrongSet => Lies {
                block: |(), block| {
                    block.header.validators_hash = set_of(&strangers()).hash();
                    block.certificate = certify(&strangers(), &block.header);
                },
                ..honest
            },
            Self::OtherHeight => Lies { asked: |height| height.saturating_add(1), ..honest },
            Self::ShortRange => Lies {
                asked_range: |asked| {
                    let is_range = asked.to_height > asked.from_height;
                    asked.to_height = asked.to_height.saturating_sub(u64::from(is_range));
                },
                range: |(), told| told.next = None,
                ..honest
            },
            Self::ForgedRange => Lies {
                range: |(), told| {
                    if let Some(last) = told.proof.last() {
                        told.proof.certificate = certify(&strangers(), &last.header);
                    }
                },
                ..honest
            },
        }
    }
}

fn forge_item((): &(), told: &mut ProvenSlice) {
    if let ProvenSlice::Present { slice, .. } = told
        && let Some(first) = slice.items.first_mut()
    {
        first.content = Content::Transaction { bytes: Bytes::from_static(b"forged") };
    }
}

fn drop_item((): &(), told: &mut ProvenSlice) {
    if let ProvenSlice::Present { slice, .. } = told {
        drop(slice.items.pop());
    }
}
