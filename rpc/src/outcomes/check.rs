//! Which blocks are on the engine's own chain, in as few questions as there can be.
//!
//! Ancestors of a block of the chain are on it, too. So the newest block is asked first, which is all there is to ask
//! while nothing was reorganised; else the highest one that is on the chain is found by halving.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use lockstep_proto::convert::ingress::BlockId;

use super::ASKED_MAX;

/// A walk through questions: ask for the hash at [`Check::next`], tell it, until there is nothing to ask.
#[derive(Clone, Debug)]
pub struct Check {
    /// All known blocks, ascending.
    blocks: Vec<BlockId>,
    /// Their numbers, ascending, each once.
    numbers: Vec<u64>,
    /// The numbers below this place are found to have a block of the chain, as far as the search goes.
    low: usize,
    /// The numbers from this place on have none.
    high: usize,
    /// Numbers that the search alone would not settle.
    apart: Vec<u64>,
    answers: BTreeMap<u64, Option<B256>>,
}

impl Check {
    /// Blocks in ascending order; `apart` are those that no descent leads to.
    pub(super) fn new(blocks: Vec<BlockId>, mut apart: Vec<u64>) -> Self {
        let mut numbers: Vec<u64> = blocks.iter().map(|block| block.number).collect();
        numbers.dedup();
        apart.dedup();
        apart.truncate(ASKED_MAX);
        let high = numbers.len();
        Self { blocks, numbers, low: 0, high, apart, answers: BTreeMap::new() }
    }

    /// The number whose hash on the engine's own chain is needed next.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        if self.low < self.high {
            let place = match self.answers.is_empty() {
                true => self.high.saturating_sub(1),
                false => self.low.midpoint(self.high),
            };
            return self.numbers.get(place).copied();
        }
        self.apart.iter().copied().find(|number| !self.answers.contains_key(number))
    }

    /// Takes the answer: `None` if the engine has no block of that number.
    pub fn told(&mut self, number: u64, hash: Option<B256>) {
        self.answers.insert(number, hash);
        let Ok(place) = self.numbers.binary_search(&number) else { return };
        if (self.low..self.high).contains(&place) {
            match self.block_at(number) {
                Some(_) => self.low = place.saturating_add(1),
                None => self.high = place,
            }
        }
    }

    /// The known block that the engine said to be on its chain at this number.
    fn block_at(&self, number: u64) -> Option<BlockId> {
        let hash = self.answers.get(&number).copied().flatten()?;
        let block = BlockId { number, hash };
        self.blocks.binary_search(&block).is_ok().then_some(block)
    }

    /// The highest known block that is on the chain.
    pub(super) fn top(&self) -> Option<BlockId> {
        self.answers.keys().rev().find_map(|number| self.block_at(*number))
    }

    /// What was asked and answered.
    pub(super) const fn answers(&self) -> &BTreeMap<u64, Option<B256>> {
        &self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, fork: u8) -> BlockId {
        BlockId { number, hash: B256::repeat_byte(fork) }
    }

    /// Asks an engine whose chain has the fork 1 up to a number, and fork 9 above; how many questions that took.
    fn run(check: &mut Check, up_to: u64, head: u64) -> usize {
        let mut count = 0;
        while let Some(number) = check.next() {
            let fork = if number <= up_to { 1 } else { 9 };
            check.told(number, (number <= head).then(|| B256::repeat_byte(fork)));
            count += 1;
            assert!(count < 100, "it ends");
        }
        count
    }

    #[test]
    fn one_question_is_enough_while_nothing_was_reorganised() {
        let mut check = Check::new((1..=4_096).map(|n| block(n, 1)).collect(), Vec::new());
        assert_eq!(run(&mut check, 9_999, 9_999), 1);
        assert_eq!(check.top(), Some(block(4_096, 1)));
    }

    #[test]
    fn the_highest_block_of_the_chain_is_found_wherever_it_is() {
        for count in [0u64, 1, 2, 3, 7, 100] {
            for up_to in 0..=count {
                for head in [up_to, count] {
                    let mut check =
                        Check::new((1..=count).map(|n| block(n, 1)).collect(), Vec::new());
                    assert!(run(&mut check, up_to, head) <= 8);
                    let expected = (up_to > 0).then(|| block(up_to, 1));
                    assert_eq!(check.top(), expected, "{up_to} of {count}");
                }
            }
        }
    }

    #[test]
    fn either_of_two_blocks_of_a_number_counts() {
        let mut blocks = vec![block(1, 1), block(2, 1), block(2, 2), block(3, 2)];
        let mut check = Check::new(blocks.clone(), Vec::new());
        run(&mut check, 2, 9);
        assert_eq!(check.top(), Some(block(2, 1)));
        blocks.remove(1);
        let mut check = Check::new(blocks, Vec::new());
        run(&mut check, 2, 9);
        assert_eq!(
            check.top(),
            Some(block(1, 1)),
            "the other block of number 2 is beside the chain"
        );
    }

    #[test]
    fn blocks_apart_are_asked_for_once_and_a_bounded_number_of_them() {
        let blocks: Vec<BlockId> = (1..=100).map(|n| block(n, 1)).collect();
        let mut check = Check::new(blocks.clone(), vec![3, 3, 4]);
        assert_eq!(run(&mut check, 999, 999), 3);
        assert_eq!(check.top(), Some(block(100, 1)));
        let mut check = Check::new(blocks, (1..=99).collect());
        assert_eq!(run(&mut check, 999, 999), 1 + ASKED_MAX);
    }
}
