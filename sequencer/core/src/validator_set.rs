//! Validators, their voting power, quorums, and whose turn it is to propose.

use alloy_primitives::{Address, B256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::encoding::{self, tag};
use crate::limits::VALIDATORS_MAX;
use crate::signing::address_of_public_key;
use crate::types::{Height, Round};

/// A validator as the genesis names it.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Validator {
    /// Ethereum address of the public key.
    pub address: Address,
    /// Compressed secp256k1 public key, 33 bytes.
    pub public_key: [u8; 33],
    /// Voting power, at least 1.
    pub power: u64,
    /// Where the mesh dials it: a multiaddr that ends in `/p2p/<peer id>`. Not part of `validators_hash`.
    pub network_address: String,
}

/// Why a list of validators is no set. The operator must mend the genesis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValidatorSet {
    /// None, or more than [`VALIDATORS_MAX`].
    #[error("{count} validators, expected 1..={VALIDATORS_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
    /// Addresses are not unique and in ascending order.
    #[error(
        "validator {address} is not after the one before it: addresses must be unique and ascending"
    )]
    Order {
        /// The one out of order.
        address: Address,
    },
    /// The public key is none, or not the address'.
    #[error("public key of validator {address} does not belong to its address")]
    PublicKey {
        /// The validator.
        address: Address,
    },
    /// Voting power is zero, or the sum does not fit in 63 bits.
    #[error("voting power of validator {address} is zero or makes the sum too great")]
    Power {
        /// The validator.
        address: Address,
    },
}

/// A validator set: 1..=[`VALIDATORS_MAX`] validators, unique, in ascending order of address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
    total_power: u64,
}

impl ValidatorSet {
    /// Checks the list and makes it a set.
    ///
    /// # Errors
    /// [`InvalidValidatorSet`] says which rule it breaks, and for whom.
    pub fn new(validators: Vec<Validator>) -> Result<Self, InvalidValidatorSet> {
        let count = validators.len();
        if count == 0 || count > VALIDATORS_MAX {
            return Err(InvalidValidatorSet::Count { count });
        }
        for pair in validators.windows(2) {
            if let [before, after] = pair
                && before.address >= after.address
            {
                return Err(InvalidValidatorSet::Order { address: after.address });
            }
        }
        let mut total_power = 0u64;
        for validator in &validators {
            let address = validator.address;
            if address_of_public_key(&validator.public_key) != Some(address) {
                return Err(InvalidValidatorSet::PublicKey { address });
            }
            total_power = total_power
                .checked_add(validator.power)
                .filter(|sum| validator.power > 0 && *sum < 1 << 60)
                .ok_or(InvalidValidatorSet::Power { address })?;
        }
        Ok(Self { validators, total_power })
    }

    /// The validators, in ascending order of address.
    pub fn iter(&self) -> core::slice::Iter<'_, Validator> {
        self.validators.iter()
    }

    /// How many validators, 1..=[`VALIDATORS_MAX`].
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.validators.len()
    }

    /// The validator at `place` in address order.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Validator> {
        self.validators.get(place)
    }

    /// The validator with this address.
    #[must_use]
    pub fn get(&self, address: Address) -> Option<&Validator> {
        self.place(address).and_then(|place| self.validators.get(place))
    }

    /// The validator's place in address order.
    #[must_use]
    pub fn place(&self, address: Address) -> Option<usize> {
        self.validators.binary_search_by_key(&address, |v| v.address).ok()
    }

    /// Sum of all voting power.
    #[must_use]
    pub const fn total_power(&self) -> u64 {
        self.total_power
    }

    /// Whether `power` is more than two thirds of the total: a quorum.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power).saturating_mul(3) > u128::from(self.total_power).saturating_mul(2)
    }

    /// Whether `power` is more than one third of the total: at least one honest validator.
    #[must_use]
    pub fn is_third(&self, power: u64) -> bool {
        u128::from(power).saturating_mul(3) > u128::from(self.total_power)
    }

    /// Hash over RLP `[address, power]…` in address order. Network addresses are not in it.
    #[must_use]
    pub fn hash(&self) -> B256 {
        #[derive(RlpEncodable)]
        struct Member {
            address: Address,
            power: u64,
        }
        let members: Vec<Member> =
            self.iter().map(|v| Member { address: v.address, power: v.power }).collect();
        let mut out = Vec::with_capacity(members.length());
        members.encode(&mut out);
        encoding::hash(tag::VALIDATORS, &[&out])
    }

    /// Whose turn it is at (height, round): place `(height + round) mod n` in address order.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the place is below the count, and a set is never empty"
    )]
    #[must_use]
    pub fn proposer(&self, height: Height, round: Round) -> &Validator {
        let turn = u128::from(height.0).saturating_add(u128::from(round.0));
        let place = turn.checked_rem(self.validators.len() as u128).expect("a set is never empty");
        let place = usize::try_from(place).expect("below the count");
        self.validators.get(place).expect("below the count")
    }
}

impl Encodable for ValidatorSet {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        self.validators.encode(out);
    }
    fn length(&self) -> usize {
        self.validators.length()
    }
}

impl Decodable for ValidatorSet {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        Self::new(Vec::decode(bytes)?).map_err(|_| alloy_rlp::Error::Custom("not a validator set"))
    }
}

#[cfg(test)]
mod tests;
