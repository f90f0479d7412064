//! The transactions that were admitted here and that the chain has not included yet.
//!
//! Plain data: the time is an argument, and nothing is sent. It knows which validator took what, because order matters:
//! within one lane of the log, a sender's transactions stay in the order they were given. So a validator is given a
//! transaction only after it took all open ones of the same sender with lower nonces. Then, whatever lane is read
//! first, no nonce comes before its predecessor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use lockstep_core::entry::Entry;
use lockstep_core::types::UnixMillis;
use lockstep_rpc::client::submitter::Progress;
use tokio::sync::Mutex as AsyncMutex;

use crate::limits::{
    HELD_MS_MAX, HELD_PER_SENDER_MAX, INCLUSION_MS_MAX, LIFE_MS_MAX, PENDING_BYTES_MAX,
    PENDING_MAX, PENDING_PER_SENDER_MAX, RESUBMIT_MS,
};
use crate::refused::Refused;
use crate::transaction::Transaction;

/// What the engine says, as of its newest block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainState {
    /// Whether the sender has code by EIP-7702.
    pub(crate) is_delegated: bool,
    /// The sender's next nonce.
    pub(crate) nonce: u64,
    /// What the sender has, in wei.
    pub(crate) balance: U256,
    /// Base fee of the next block, in wei per gas.
    pub(crate) base_fee: u128,
    /// Gas limit of a block.
    pub(crate) gas_limit: u64,
    /// What the transaction pays for L1, in wei.
    pub(crate) l1_fee: U256,
}

/// What happens to an admitted transaction now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It can be submitted.
    Ready,
    /// It waits for a lower nonce.
    Held,
}

/// Why a pending transaction was given up. Its nonce is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("no validator took it, or the nonces before it did not come")]
    Held,
    #[error("it was not decided in time")]
    Expired,
    #[error("it was decided, and the chain passed it over")]
    Skipped,
    #[error("the validators refuse it for good")]
    Refused,
}

impl Dropped {
    /// In one word, for the counter.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
        }
    }
}

/// What a validator said to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It took it, or has it.
    Taken(Progress),
    /// It did not take it now.
    NotNow,
    /// It will never take it.
    Never,
}

/// Which transactions of a sender a validator is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Those it has not taken yet.
    First,
    /// All that are open up to this nonce, known or not: its answers tell how far they are.
    Again { up_to: u64 },
}

#[derive(Debug)]
struct Pending {
    transaction: Arc<Transaction>,
    /// With what it pays for L1.
    cost: U256,
    entry: Entry,
    admitted: UnixMillis,
    submitted: UnixMillis,
    decided_at: Option<UnixMillis>,
    /// Validators, by index.
    taken: BTreeSet<usize>,
    decided: BTreeSet<usize>,
    refused: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct Account {
    /// The engine's next nonce, as it was seen last.
    nonce: u64,
    /// Whether it was seen lower since.
    is_lower: bool,
    pending: BTreeMap<u64, Pending>,
    /// How often its transactions were submitted again.
    turn: usize,
    /// Per validator: whoever submits to it holds the lock, so that nothing is submitted twice at a time.
    lanes: BTreeMap<usize, Arc<AsyncMutex<()>>>,
}

impl Account {
    /// The first nonce from `from` on that no pending transaction has.
    fn next_nonce(&self, from: u64) -> u64 {
        let mut next = from;
        for nonce in self.pending.range(from..).map(|(nonce, _)| *nonce) {
            if nonce != next {
                break;
            }
            next = next.saturating_add(1);
        }
        next
    }

    /// The pending transactions without a gap before them, those that are not decided yet.
    fn open(&self) -> impl DoubleEndedIterator<Item = (u64, &Pending)> {
        let end = self.next_nonce(self.nonce);
        self.pending
            .range(self.nonce..end)
            .map(|(nonce, pending)| (*nonce, pending))
            .filter(|(_, pending)| pending.decided_at.is_none())
    }

    fn check_funds(&self, transaction: &Transaction, state: &ChainState) -> Result<(), Refused> {
        let (balance, cost) = (state.balance, transaction.cost.saturating_add(state.l1_fee));
        if cost > balance {
            return Err(Refused::Funds { balance, cost, overshot: cost.saturating_sub(balance) });
        }
        let queued = self
            .pending
            .range(self.nonce..)
            .fold(U256::ZERO, |sum, (_, pending)| sum.saturating_add(pending.cost));
        let overshot = queued.saturating_add(cost).saturating_sub(balance);
        match overshot.is_zero() {
            true => Ok(()),
            false => Err(Refused::QueuedFunds { balance, queued, cost, overshot }),
        }
    }

    /// One at a time, and none ahead of its turn: whoever can call the account may take what the ones behind need. Source: geth's
    /// `checkDelegationLimit`.
    fn check_delegated(&self, nonce: u64) -> Result<(), Refused> {
        match (self.pending.range(self.nonce..).next(), nonce > self.nonce) {
            (Some(_), _) => Err(Refused::DelegatedLimit),
            (None, true) => Err(Refused::DelegatedGap),
            (None, false) => Ok(()),
        }
    }

    fn check_room(&self, nonce: u64) -> Result<Admission, Refused> {
        let next = self.next_nonce(self.nonce);
        let run = next.saturating_sub(self.nonce);
        let held = (self.pending.range(next..).count()) as u64;
        if nonce == next {
            let is_full = run >= PENDING_PER_SENDER_MAX as u64;
            return if is_full { Err(Refused::AccountLimit) } else { Ok(Admission::Ready) };
        }
        let is_far = nonce.saturating_sub(next) > PENDING_PER_SENDER_MAX as u64;
        match held >= HELD_PER_SENDER_MAX as u64 || is_far {
            true => Err(Refused::AccountLimit),
            false => Ok(Admission::Held),
        }
    }
}

/// The pending transactions of all senders; bounded in number and bytes.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// How many validators must say the same before it is believed: one more than may lie.
    quorum: usize,
    accounts: BTreeMap<Address, Account>,
    by_hash: BTreeMap<B256, (Address, u64)>,
    bytes: usize,
}

impl Overlay {
    pub(crate) const fn new(quorum: usize) -> Self {
        Self { quorum, accounts: BTreeMap::new(), by_hash: BTreeMap::new(), bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) fn senders(&self) -> Vec<Address> {
        self.accounts.keys().copied().collect()
    }

    pub(crate) fn knows_sender(&self, sender: Address) -> bool {
        self.accounts.contains_key(&sender)
    }

    pub(crate) fn transaction(&self, hash: B256) -> Option<Arc<Transaction>> {
        self.find(hash).map(|pending| Arc::clone(&pending.transaction))
    }

    /// The sender's next nonce, if the chain's is `nonce`.
    pub(crate) fn next_nonce(&self, sender: Address, nonce: u64) -> u64 {
        self.accounts.get(&sender).map_or(nonce, |account| account.next_nonce(nonce))
    }

    /// Whether any validator took the transaction, or it needs none any more.
    pub(crate) fn is_taken(&self, hash: B256) -> bool {
        self.find(hash).is_none_or(|pending| !pending.taken.is_empty())
    }

    fn find(&self, hash: B256) -> Option<&Pending> {
        let (sender, nonce) = self.by_hash.get(&hash)?;
        self.accounts.get(sender)?.pending.get(nonce)
    }

    /// Admits a transaction whose entry the gateway signed, if the sender's state and what is pending allow it.
    ///
    /// # Errors
    /// [`Refused`], in the words of a mempool; then nothing changed.
    pub(crate) fn admit(
        &mut self,
        transaction: Transaction,
        entry: Entry,
        state: &ChainState,
        now: UnixMillis,
    ) -> Result<Admission, Refused> {
        if self.by_hash.contains_key(&transaction.hash) {
            return Err(Refused::AlreadyKnown);
        }
        self.note_nonce(transaction.sender, state.nonce);
        let unknown = Account { nonce: state.nonce, ..Account::default() };
        let account = self.accounts.get(&transaction.sender).unwrap_or(&unknown);
        check_state(&transaction, account.nonce, state)?;
        if account.pending.contains_key(&transaction.nonce) {
            return Err(Refused::Replacement);
        }
        account.check_funds(&transaction, state)?;
        if state.is_delegated {
            account.check_delegated(transaction.nonce)?;
        }
        let admission = account.check_room(transaction.nonce)?;
        let bytes = self.bytes.saturating_add(transaction.bytes.len());
        if self.by_hash.len() >= PENDING_MAX || bytes > PENDING_BYTES_MAX {
            return Err(Refused::Full);
        }
        self.bytes = bytes;
        self.insert(transaction, entry, state, now);
        Ok(admission)
    }

    fn insert(
        &mut self,
        transaction: Transaction,
        entry: Entry,
        state: &ChainState,
        now: UnixMillis,
    ) {
        let Transaction { hash, sender, nonce, .. } = transaction;
        let pending = Pending {
            cost: transaction.cost.saturating_add(state.l1_fee),
            transaction: Arc::new(transaction),
            entry,
            admitted: now,
            submitted: now,
            decided_at: None,
            taken: BTreeSet::new(),
            decided: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        let account = self
            .accounts
            .entry(sender)
            .or_insert_with(|| Account { nonce: state.nonce, ..Account::default() });
        account.pending.insert(nonce, pending);
        self.by_hash.insert(hash, (sender, nonce));
    }

    /// A read of the engine that another overtook must not bring back what was included.
    fn note_nonce(&mut self, sender: Address, nonce: u64) {
        if self.accounts.get(&sender).is_some_and(|account| account.nonce < nonce) {
            self.include(sender, nonce);
        }
    }

    /// The engine's next nonce of a sender is `nonce`: what is below was included, or replaced by what was.
    ///
    /// It may go back, when the chain does: believed when it is seen twice, because one read may be an old one.
    pub(crate) fn include(&mut self, sender: Address, nonce: u64) {
        let Some(account) = self.accounts.get_mut(&sender) else { return };
        let is_lower = nonce < account.nonce;
        if is_lower && !account.is_lower {
            account.is_lower = true;
            return;
        }
        account.is_lower = false;
        account.nonce = nonce;
        let open = account.pending.split_off(&nonce);
        let included = std::mem::replace(&mut account.pending, open);
        let is_empty = account.pending.is_empty();
        for pending in included.into_values() {
            self.release(&pending.transaction);
        }
        if is_empty {
            self.accounts.remove(&sender);
        }
    }

    fn release(&mut self, transaction: &Transaction) {
        self.by_hash.remove(&transaction.hash);
        self.bytes = self.bytes.saturating_sub(transaction.bytes.len());
    }

    /// Forgets a transaction; its nonce is free again.
    pub(crate) fn forget(&mut self, hash: B256) -> Option<Arc<Transaction>> {
        let (sender, nonce) = self.by_hash.get(&hash).copied()?;
        let account = self.accounts.get_mut(&sender)?;
        let pending = account.pending.remove(&nonce)?;
        if account.pending.is_empty() {
            self.accounts.remove(&sender);
        }
        self.release(&pending.transaction);
        Some(pending.transaction)
    }

    /// The lock of whoever submits this sender's transactions to this validator.
    pub(crate) fn lane(&mut self, sender: Address, endpoint: usize) -> Option<Arc<AsyncMutex<()>>> {
        let account = self.accounts.get_mut(&sender)?;
        Some(Arc::clone(account.lanes.entry(endpoint).or_default()))
    }

    /// The next transaction with at least this nonce to give to a validator.
    pub(crate) fn next(
        &self,
        sender: Address,
        endpoint: usize,
        round: Round,
        from: u64,
    ) -> Option<(u64, B256, Entry)> {
        let mut open = self.accounts.get(&sender)?.open();
        let (nonce, pending) = open.find(|(nonce, pending)| {
            let is_wanted = match round {
                Round::First => !pending.taken.contains(&endpoint),
                Round::Again { up_to } => *nonce <= up_to,
            };
            is_wanted && *nonce >= from
        })?;
        Some((nonce, pending.transaction.hash, pending.entry.clone()))
    }

    /// Keeps the entry with its new expiry.
    pub(crate) fn renew(&mut self, hash: B256, entry: &Entry) {
        if let Some(pending) = self.find_mut(hash) {
            pending.entry = entry.clone();
        }
    }

    fn find_mut(&mut self, hash: B256) -> Option<&mut Pending> {
        let (sender, nonce) = self.by_hash.get(&hash)?;
        self.accounts.get_mut(sender)?.pending.get_mut(nonce)
    }

    /// A validator answered a submission.
    pub(crate) fn answered(
        &mut self,
        hash: B256,
        endpoint: usize,
        answer: Answer,
        now: UnixMillis,
    ) {
        let quorum = self.quorum;
        let Some(pending) = self.find_mut(hash) else { return };
        match answer {
            Answer::Taken(progress) => {
                pending.taken.insert(endpoint);
                pending.refused.remove(&endpoint);
                if progress == Progress::Decided {
                    pending.decided.insert(endpoint);
                }
            }
            // It may have lost what it took before.
            Answer::NotNow => {
                pending.taken.remove(&endpoint);
            }
            Answer::Never => {
                pending.taken.remove(&endpoint);
                pending.refused.insert(endpoint);
            }
        }
        if pending.decided.len() >= quorum && pending.decided_at.is_none() {
            pending.decided_at = Some(now);
        }
    }

    /// The senders whose open transactions are due again: for each the last nonce that is, and which turn it is. They
    /// count as submitted from now on.
    pub(crate) fn take_due(&mut self, now: UnixMillis) -> Vec<(Address, u64, usize)> {
        let mut due = Vec::new();
        for (sender, account) in &mut self.accounts {
            let is_due = |pending: &Pending| now.since(pending.submitted) >= RESUBMIT_MS;
            let last = account.open().rev().find(|(_, pending)| is_due(pending));
            let Some(up_to) = last.map(|(nonce, _)| nonce) else { continue };
            account.turn = account.turn.saturating_add(1);
            for (_, pending) in account.pending.range_mut(..=up_to) {
                pending.submitted = now;
            }
            due.push((*sender, up_to, account.turn));
        }
        due
    }

    /// Gives up what will not be included, and says what and why. `head` is the time of the engine's newest block.
    pub(crate) fn drop_stale(
        &mut self,
        now: UnixMillis,
        head: UnixMillis,
    ) -> Vec<(Arc<Transaction>, Dropped)> {
        let quorum = self.quorum;
        let stale: Vec<(B256, Dropped)> = self
            .accounts
            .values()
            .flat_map(|account| account.pending.values())
            .filter_map(|pending| {
                Some((pending.transaction.hash, pending.staleness(now, head, quorum)?))
            })
            .collect();
        let forget = |(hash, why)| self.forget(hash).map(|transaction| (transaction, why));
        stale.into_iter().filter_map(forget).collect()
    }
}

impl Pending {
    fn staleness(&self, now: UnixMillis, head: UnixMillis, quorum: usize) -> Option<Dropped> {
        let age = now.since(self.admitted);
        if self.refused.len() >= quorum {
            return Some(Dropped::Refused);
        }
        match self.decided_at {
            // A chain that stands still skips nothing.
            Some(at) if head.since(at) > INCLUSION_MS_MAX => Some(Dropped::Skipped),
            Some(_) => None,
            None if age > LIFE_MS_MAX => Some(Dropped::Expired),
            None if self.taken.is_empty() && age > HELD_MS_MAX => Some(Dropped::Held),
            None => None,
        }
    }
}

/// What does not depend on other pending transactions.
fn check_state(transaction: &Transaction, next: u64, state: &ChainState) -> Result<(), Refused> {
    let Transaction { sender, nonce, gas, fee, .. } = *transaction;
    let base_fee = state.base_fee;
    if gas > state.gas_limit {
        return Err(Refused::GasLimit);
    }
    if nonce < next {
        return Err(Refused::NonceTooLow { next, nonce });
    }
    if fee < base_fee {
        return Err(Refused::FeeTooLow { sender, fee, base_fee });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
