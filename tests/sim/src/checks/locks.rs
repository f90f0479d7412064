//! Whoever precommits nil where a node has locked a block is shown why.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::certificate::{Vote, VoteType};
use lockstep_core::types::{Height, Round};

use super::Checks;

type Place = (Height, Round);

/// What is known of locks.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    /// Where each node locked last.
    newest: BTreeMap<usize, Place>,
    /// By which node to which one.
    shown: BTreeSet<(usize, usize, Place)>,
}

impl Checks {
    /// A node starts consensus anew.
    pub(crate) fn forgets_locks(&mut self, node: usize) {
        self.locks.newest.remove(&node);
        self.locks.shown.retain(|(of, ..)| *of != node);
    }

    /// A node sends a vote of its own.
    pub(crate) fn votes(&mut self, node: usize, vote: &Vote) {
        if vote.vote_type == VoteType::Precommit && vote.block.is_some() {
            self.locks.newest.insert(node, (vote.height, vote.round));
        }
    }

    /// A node sends a polka to one other.
    pub(crate) fn shows(&mut self, node: usize, to: usize, at: Place) {
        self.locks.shown.insert((node, to, at));
    }

    /// Whether a node has locked there.
    pub(crate) fn has_locked(&self, node: usize, at: Place) -> bool {
        self.locks.newest.get(&node) == Some(&at)
    }

    /// A node that has locked there took another's nil.
    pub(crate) fn must_have_shown(&mut self, node: usize, to: usize, at: Place) {
        if !self.locks.shown.contains(&(node, to, at)) {
            let (height, round) = at;
            self.fail(format!("node {node} hides its lock of {height}, {round} from node {to}"));
        }
    }
}
