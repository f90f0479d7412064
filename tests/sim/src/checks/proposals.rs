//! What becomes of proposals that a node has: one that came whole before its height is opened when the height begins, a
//! block that lies on its disk is read from it, and what consensus wants sent again is sent again.
//!
//! A node that fails one of these is helped by others as long as nothing else is wrong, so nothing stands still.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_consensus::application::candidates::ROUNDS_AHEAD_MAX;
use lockstep_consensus::application::effect::{Effect, Report};
use lockstep_consensus::application::input::{Done, EngineInput, Input, MeshInput};
use lockstep_consensus::application::proposals::{EARLY_PER_PEER_MAX, Refusal};
use lockstep_consensus::parts::HEIGHTS_AHEAD_MAX;
use lockstep_core::certificate::Proposal;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_engine::{PartContent, PartMessage, StreamId};

use super::Checks;
use crate::node::place;

/// A stream whose parts come one after the other.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    first: Option<Proposal>,
    sequences: BTreeSet<u64>,
    end: Option<u64>,
}

impl Stream {
    /// Height and round of its proposal. An honest node has them in the stream's name, for when the first part is the last.
    fn place(&self) -> Option<(Height, Round)> {
        let height = self.id.0.first_chunk().map(|height| Height(u64::from_be_bytes(*height)))?;
        let round = self.id.0.get(8..)?.first_chunk().map(|r| Round(u32::from_be_bytes(*r)))?;
        Some((height, round))
    }
}

/// A proposal of a height to come.
#[derive(Debug)]
struct Early {
    place: (Height, Round),
    /// `None` where parts of another stream came between its own: it may be whole, and takes a place then.
    proposal: Option<Proposal>,
}

/// What each node has of proposals.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// By receiver and sender. Parts of another stream between them end it: then nothing is known of it.
    streams: BTreeMap<(usize, usize), Stream>,
    /// Those of heights to come that are kept, by receiver and sender.
    early: BTreeMap<(usize, usize), Vec<Early>>,
    /// Those of the height under way that a node opened.
    opened: BTreeMap<usize, Vec<Proposal>>,
    /// Blocks that a node reads from its store, at this height.
    read: BTreeMap<usize, BTreeSet<BlockHash>>,
    /// The height that was under way when a node started: of that it knows less.
    began: BTreeMap<usize, Height>,
    /// The height under way, as the node's application knows it: it learns of a commit when the commit is written.
    at: BTreeMap<usize, Height>,
}

impl Proposals {
    /// A node begins a height.
    fn begin_height(&mut self, node: usize, height: Height) {
        self.opened.remove(&node);
        self.read.remove(&node);
        self.at.insert(node, height);
    }

    /// The stream that a part is of; another one between the two nodes ends.
    fn stream(&mut self, between: (usize, usize), id: &StreamId) -> &mut Stream {
        let new = || Stream { id: id.clone(), first: None, sequences: BTreeSet::new(), end: None };
        if self.streams.get(&between).is_some_and(|stream| stream.id != *id)
            && let Some(place) = self.streams.remove(&between).and_then(|ended| ended.place())
        {
            self.keep(between, Early { place, proposal: None });
        }
        self.streams.entry(between).or_insert_with(new)
    }

    /// A proposal waits for its height. Of one sender's the farthest gives way, and copies count.
    fn keep(&mut self, between: (usize, usize), early: Early) {
        let at = self.at.get(&between.0).copied().unwrap_or_default();
        if early.place.0 <= at || early.place.1.0 > ROUNDS_AHEAD_MAX {
            return;
        }
        let kept = self.early.entry(between).or_default();
        kept.push(early);
        kept.sort_by_key(|early| early.place);
        kept.truncate(EARLY_PER_PEER_MAX);
    }
}

/// What an input asks of the step that takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// To open what came for the height behind this one.
    Opened(Height),
    /// To send a block of another once more.
    SentAgain(Proposal),
}

impl Checks {
    /// A node starts at a height.
    pub(crate) fn starts(&mut self, node: usize, height: Height) {
        let known = &mut self.proposals;
        known.streams.retain(|(to, _), _| *to != node);
        known.early.retain(|(to, _), _| *to != node);
        known.opened.remove(&node);
        known.read.remove(&node);
        known.began.insert(node, height);
        known.at.insert(node, height);
    }

    /// A part came from an honest node, which makes one proposal of a round and sends it as it is.
    pub(crate) fn part_came(&mut self, (from, to): (usize, usize), part: &PartMessage) {
        let known = &mut self.proposals;
        let Some(at) = known.at.get(&to).copied() else { return };
        let stream = known.stream((to, from), &part.stream);
        stream.sequences.insert(part.sequence);
        match &part.content {
            // One that is too far ahead when it comes is dropped, with its stream.
            PartContent::First(first) => {
                let ahead = at.next().0..=at.0 + HEIGHTS_AHEAD_MAX;
                if !ahead.contains(&first.proposal.height.0) {
                    known.streams.remove(&(to, from));
                    return;
                }
                stream.first = Some(first.proposal);
            }
            PartContent::Fin => stream.end = Some(part.sequence),
            PartContent::Data(_) => {}
        }
        let (Some(proposal), Some(end)) = (stream.first, stream.end) else { return };
        if proposal.height <= at || stream.sequences.len() as u64 != end + 1 {
            return;
        }
        known.streams.remove(&(to, from));
        let place = (proposal.height, proposal.round);
        known.keep((to, from), Early { place, proposal: Some(proposal) });
    }

    /// What an input asks of the step that takes it.
    pub(crate) fn asks(&mut self, node: usize, input: &Input) -> Option<Asked> {
        let known = &mut self.proposals;
        match input {
            Input::Done(Done::BlockCommitted(committed)) => {
                Some(Asked::Opened(committed.state.height))
            }
            Input::Done(Done::ProposalOpened(opened)) => {
                known.opened.entry(node).or_default().push(opened.first.proposal);
                None
            }
            Input::Engine(EngineInput::RestreamRequested { proposal, proposer }) => {
                let is_new = known.began.get(&node).is_some_and(|began| *began < proposal.height);
                let is_opened = known.opened.get(&node).is_some_and(|of| of.contains(proposal));
                let is_ours = self.addresses[node] == *proposer;
                (is_new && is_opened && !is_ours).then_some(Asked::SentAgain(*proposal))
            }
            // A new run of consensus begins the height anew.
            Input::Engine(EngineInput::Started { .. }) => {
                let at = known.at.get(&node).copied().unwrap_or_default();
                known.began.insert(node, at);
                known.begin_height(node, at);
                None
            }
            Input::Mesh(MeshInput::PeerDown(peer)) => {
                known.streams.remove(&(node, place(peer)));
                known.early.remove(&(node, place(peer)));
                None
            }
            _ => None,
        }
    }

    /// The step that was asked has given these effects.
    pub(crate) fn answered(&mut self, node: usize, asked: Option<Asked>, effects: &[Effect]) {
        let result = match asked {
            Some(Asked::Opened(height)) => self.opens_early(node, height, effects),
            Some(Asked::SentAgain(proposal)) => {
                let is_it = |effect: &Effect| match effect {
                    Effect::Publish { first, .. } => first.proposal == proposal,
                    _ => false,
                };
                let reason = || format!("node {node} does not send {proposal:?} again");
                effects.iter().any(is_it).then_some(()).ok_or_else(reason)
            }
            None => Ok(()),
        };
        if node >= self.liars {
            self.expect(result);
        }
        let read = effects.iter().filter_map(|effect| match effect {
            Effect::ReadUndecided { block, .. } => Some(*block),
            _ => None,
        });
        let read: Vec<_> = read.collect();
        if !read.is_empty() {
            self.proposals.read.entry(node).or_default().extend(read);
        }
    }

    /// A height is over: what came for the next one is opened.
    fn opens_early(
        &mut self,
        node: usize,
        height: Height,
        effects: &[Effect],
    ) -> Result<(), String> {
        let known = &mut self.proposals;
        known.begin_height(node, height.next());
        let mut result = Ok(());
        for ((_, from), early) in known.early.range_mut((node, 0)..(node + 1, 0)) {
            let due: Vec<_> = early.extract_if(.., |p| p.place.0 <= height.next()).collect();
            let due = due.into_iter().filter(|early| early.place.0 == height.next());
            for proposal in due.filter_map(|early| early.proposal) {
                let is_it = |effect: &Effect| match effect {
                    Effect::OpenProposal { first, .. } => first.proposal == proposal,
                    Effect::Report(Report::ProposalRefused { reason, proposal: of, .. }) => {
                        *of == proposal && matches!(reason, Refusal::Busy)
                    }
                    _ => false,
                };
                if !effects.iter().any(is_it) {
                    result = Err(format!("node {node} does not open {proposal:?} of node {from}"));
                }
            }
        }
        result
    }

    /// A block waits because of a fork. If the whole of it lies on the node's disk, it is being read.
    pub(crate) fn waits_at_fork(&mut self, node: usize, block: BlockHash, is_held: bool) {
        let is_read = self.proposals.read.get(&node).is_some_and(|read| read.contains(&block));
        if is_held && !is_read && node >= self.liars {
            self.fail(format!("node {node} waits for {block}, which it holds"));
        }
    }
}
