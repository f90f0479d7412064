//! The attacks. Each goes on until it is dropped.

use std::time::Duration;

use alloy_primitives::B256;
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::join;
use libp2p::PeerId;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::mesh::class::Class;
use lockstep_consensus::mesh::keypair_from_seed;
use lockstep_core::batch::Batch;
use lockstep_core::certificate::{Vote, VoteType};
use lockstep_core::entry::Entry;
use lockstep_core::limits::LANE_AHEAD_BATCHES_MAX;
use lockstep_core::signing::SigningKey;
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, BlockHash, Height, Incarnation, Round, Sequence};
use lockstep_node::clock;
use lockstep_proto::v1;
use lockstep_proto::v1::votes_frame::Message;
use lockstep_tests::attacker::{Attacker, join as join_mesh};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, expires_in, opaque, tight, wallet};
use prost::Message as _;
use tokio::time::interval;

use crate::floods;

/// An attack, for as long as it is awaited.
pub(crate) type Run = for<'a> fn(&'a Cluster, &'a mut Attacker) -> LocalBoxFuture<'a, ()>;

/// An attack.
pub(crate) struct Attack {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// What of its turns to propose is lost by it.
    pub(crate) turns: Turns,
    /// How it is known that it attacked.
    pub(crate) seen: Seen,
    /// What it does.
    pub(crate) run: Run,
}

/// What shows that an attack reached the validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing need show it.
    Nothing,
    /// Each of them logs this.
    Logged(&'static str),
    /// The attacker receives at least so many bytes of the class from each.
    Received(Class, u64),
}

impl Seen {
    /// Whether it is so.
    pub(crate) fn is_so(self, cluster: &Cluster, attacker: &Attacker) -> bool {
        match self {
            Self::Nothing => true,
            Self::Logged(words) => {
                [1, 2, 3].iter().all(|index| cluster.node(*index).log().contains(words))
            }
            Self::Received(class, least) => {
                let peers = attacker.mesh.stats().peers;
                peers.values().all(|peer| peer.classes.get(class).received_bytes >= least)
            }
        }
    }
}

/// What becomes of the attacker's turns to propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// They are lost, as if it were silent: each costs the others the timeout of a round.
    Lost,
    /// It proposes a valid block.
    Taken,
}

/// All attacks. The first is what those that lose turns are compared with.
pub(crate) const ATTACKS: [Attack; 22] = [
    Attack {
        name: "silence: its turns are lost",
        turns: Turns::Lost,
        seen: Seen::Nothing,
        run: |_, _| Box::pin(std::future::pending()),
    },
    Attack {
        name: "none, it takes its turns",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(take_turns(c, a)),
    },
    Attack {
        name: "its turns: blocks dated ahead, polkas that never were",
        turns: Turns::Lost,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(dated_ahead(c, a)),
    },
    Attack {
        name: "parts: proposals for all of its rounds",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(all_rounds(c, a)),
    },
    Attack {
        name: "its turns: two blocks, and votes split",
        turns: Turns::Lost,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(split(c, a)),
    },
    Attack {
        name: "parts: streams without an end, 3 MB/s",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(parts(c, a)),
    },
    Attack {
        name: "lane: two batches at each position",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(forked_lane(c, a)),
    },
    Attack {
        name: "lane: batches too far ahead, 10 MB/s",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(far_lane(c, a)),
    },
    Attack {
        name: "lane: one chain over its budget, 4 MB/s",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(over_budget(c, a)),
    },
    Attack {
        name: "lane: one transaction in 19,000 copies a second",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(checks(c, a)),
    },
    Attack {
        name: "lane: expired copies of the honest entries",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(copies(c, a)),
    },
    Attack {
        name: "strangers: batches of theirs, 2 MB/s",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(strange_batches(c, a)),
    },
    Attack {
        name: "strangers: one that dials for ever",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(stranger(c, a)),
    },
    Attack {
        name: "its turns: votes that make one validator lock alone",
        turns: Turns::Lost,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(floods::hidden_lock(c, a)),
    },
    Attack {
        name: "votes: its own of other heights and rounds, 2,000/s",
        turns: Turns::Lost,
        seen: Seen::Logged("signed two conflicting messages"),
        run: |c, a| Box::pin(floods::own_votes(c, a)),
    },
    Attack {
        name: "votes: those of others, and wrong signatures",
        turns: Turns::Lost,
        seen: Seen::Logged("disconnecting a validator"),
        run: |c, a| Box::pin(floods::false_votes(c, a)),
    },
    Attack {
        name: "parts: proposals with another's signature",
        turns: Turns::Lost,
        seen: Seen::Logged("first part is signed by"),
        run: |c, a| Box::pin(floods::false_parts(c, a)),
    },
    Attack {
        name: "parts: 23,000 transfers each, the last unsigned, 5/s",
        turns: Turns::Lost,
        seen: Seen::Logged("entry 3300 of the batch"),
        run: |c, a| Box::pin(floods::false_batches(c, a)),
    },
    Attack {
        name: "requests: 64 batches each, 1,000/s",
        turns: Turns::Taken,
        seen: Seen::Received(Class::Lanes, 20_000_000),
        run: |c, a| Box::pin(floods::batch_requests(c, a)),
    },
    Attack {
        name: "requests: the whole log each, 1,000/s",
        turns: Turns::Taken,
        seen: Seen::Received(Class::Sync, 5_000_000),
        run: |c, a| Box::pin(floods::value_requests(c, a)),
    },
    Attack {
        name: "parts: batches of ever new runs, 17 MB/s",
        turns: Turns::Taken,
        seen: Seen::Nothing,
        run: |c, a| Box::pin(floods::new_runs(c, a)),
    },
    Attack {
        name: "lane: forks, after as many as are kept",
        turns: Turns::Lost,
        seen: Seen::Logged("a lane signed two batches at one position"),
        run: |c, a| Box::pin(floods::forks_beyond_the_bound(c, a)),
    },
];

/// One height's honest work: a valid block without entries when it is its turn.
pub(crate) async fn take_turns(cluster: &Cluster, attacker: &Attacker) {
    let propose = async |state: &_| {
        if attacker.is_turn(state) {
            let (header, cut) = attacker.valid_block(state);
            attacker.propose(header.height, &header, &cut);
        }
    };
    attacker.at_each_height(cluster.node(1), propose).await;
}

/// Its turns are taken, and `act` is done every so many milliseconds, with a number that grows.
pub(crate) async fn beside_turns(
    cluster: &Cluster,
    attacker: &Attacker,
    ms: u64,
    mut act: impl FnMut(u64),
) {
    let acts = async {
        let mut ticks = interval(Duration::from_millis(ms));
        for number in 0.. {
            ticks.tick().await;
            act(number);
        }
    };
    join!(take_turns(cluster, attacker), acts);
}

pub(crate) fn peers(cluster: &Cluster) -> [PeerId; 3] {
    [1, 2, 3].map(|index| cluster.peer(index).0)
}

/// Pushes to whoever has room for more.
pub(crate) fn push(attacker: &Attacker, batch: &Batch) {
    let frame = LaneMessage::Batch(batch.raw().0.clone()).encode();
    attacker.broadcast(Class::Lanes, frame);
}

async fn dated_ahead(cluster: &Cluster, attacker: &Attacker) {
    let propose = async |state: &State| {
        if attacker.is_turn(state) {
            let ahead = [60_000, 3_600_000][usize::from(state.height.0 % 8 < 4)];
            let (header, cut) = attacker.block_at(state, clock::now().plus(ahead));
            attacker.propose_with_a_polka_that_never_was(&header, &cut, Round(4));
            attacker.propose(header.height, &header, &cut);
        }
    };
    attacker.at_each_height(cluster.node(1), propose).await;
}

async fn all_rounds(cluster: &Cluster, attacker: &Attacker) {
    let propose = async |state: &_| attacker.propose_in_all_rounds(state);
    attacker.at_each_height(cluster.node(1), propose).await;
}

/// Two blocks for each of its turns; and of every proposal that it hears, votes for it to one and against it to the others.
async fn split(cluster: &Cluster, attacker: &Attacker) {
    let peers = peers(cluster);
    let (one, others) = peers.split_at(1);
    let propose = async |state: &State| {
        if attacker.is_turn(state) {
            let now = clock::now();
            for (ms, to) in [(0, one), (1, others)] {
                let (header, cut) = attacker.block_at(state, now.plus(ms));
                attacker.propose_to(to, &header, &cut);
            }
        }
    };
    let votes = async {
        let mut last = Height::GENESIS;
        loop {
            let newer = |message: &Message| {
                let Message::Proposal(proposal) = message else { return None };
                (proposal.height > last.0).then(|| proposal.clone())
            };
            let heard = attacker.until_heard("a proposal", Duration::from_secs(60), newer).await;
            last = Height(heard.height);
            let block = BlockHash(B256::from_slice(&heard.block));
            for vote_type in [VoteType::Prevote, VoteType::Precommit] {
                for (to, block) in [(one, Some(block)), (others, None)] {
                    let (height, round) = (last, Round(heard.round));
                    attacker.vote_to(to, Vote { height, round, vote_type, block });
                }
            }
        }
    };
    join!(attacker.at_each_height(cluster.node(1), propose), votes);
}

/// Data of streams that have neither a first part nor an end.
async fn parts(cluster: &Cluster, attacker: &Attacker) {
    let (large, small) = (Bytes::from(vec![0x5a; 64 << 10]), Bytes::from_static(b"small"));
    let act = |number: u64| {
        for stream in 0..20 {
            let data = if stream == 0 { &large } else { &small };
            let content = Some(v1::parts_frame::Content::Data(data.clone()));
            let stream = Bytes::copy_from_slice(&(20 * number + stream).to_be_bytes());
            let part = v1::PartsFrame { stream, sequence: 1, content };
            attacker.broadcast(Class::Parts, part.encode_to_vec());
        }
    };
    beside_turns(cluster, attacker, 20, act).await;
}

async fn forked_lane(cluster: &Cluster, attacker: &Attacker) {
    let (run, peers) = (clock::now().0, peers(cluster));
    let mut parents = [BatchDigest::ZERO; 2];
    let act = |number: u64| {
        let branch = |name: &str, parent| {
            attacker.batch(run, number, parent, vec![opaque(&format!("{name} {number}"))])
        };
        let [left, right] = [branch("left", parents[0]), branch("right", parents[1])];
        for (place, peer) in (0u64..).zip(peers) {
            let batch = if place == number % 3 { &right } else { &left };
            let frame = LaneMessage::Batch(batch.raw().0.clone()).encode();
            attacker.mesh.send(peer, Class::Lanes, frame).ok();
        }
        attacker.acknowledge(&left);
        parents = [left.digest(), right.digest()];
    };
    beside_turns(cluster, attacker, 50, act).await;
}

/// An entry that begins with a text and has so many bytes more.
pub(crate) fn long(text: &str, bytes: usize) -> Entry {
    let mut text = text.to_owned();
    text.extend(std::iter::repeat_n('x', bytes));
    opaque(&text)
}

async fn far_lane(cluster: &Cluster, attacker: &Attacker) {
    let run = clock::now().0;
    let act = |number: u64| {
        let sequence = LANE_AHEAD_BATCHES_MAX as u64 + number;
        let parent = BatchDigest(B256::repeat_byte(0xdd));
        push(
            attacker,
            &attacker.batch(
                run + number % 50,
                sequence,
                parent,
                vec![long(&format!("far {number} "), 100_000)],
            ),
        );
    };
    beside_turns(cluster, attacker, 10, act).await;
}

async fn over_budget(cluster: &Cluster, attacker: &Attacker) {
    let (run, mut parent) = (clock::now().0, BatchDigest::ZERO);
    let act = |number: u64| {
        let first = u32::try_from(4 * number).expect("few");
        let entries = (first..first + 4).map(|n| tight(n, 100_000, expires_in(30_000))).collect();
        let batch = attacker.batch(run, number, parent, entries);
        parent = batch.digest();
        push(attacker, &batch);
    };
    beside_turns(cluster, attacker, 100, act).await;
}

/// Each copy has another expiry, so it is another entry to check.
async fn checks(cluster: &Cluster, attacker: &Attacker) {
    let (run, mut parent) = (clock::now().0, BatchDigest::ZERO);
    let transaction = wallet(EVM_A, 77).transaction(expires_in(30_000)).expect("a transaction");
    let act = |number: u64| {
        let expires = expires_in(20_000);
        let copy = |n| Entry::new(transaction.body().clone(), expires.plus(n), None);
        let entries = (0..3_300).map(|n| copy(n).expect("as short as before")).collect();
        let batch = attacker.batch(run, number, parent, entries);
        parent = batch.digest();
        push(attacker, &batch);
    };
    beside_turns(cluster, attacker, 175, act).await;
}

/// Of every entry of an honest lane it has a copy in its own that has expired.
async fn copies(cluster: &Cluster, attacker: &mut Attacker) {
    let mut lanes = attacker.take_lanes();
    let attacker = &*attacker;
    let copy = async {
        let (run, mut sequence, mut parent) = (clock::now().0, 0, BatchDigest::ZERO);
        while let Some(frame) = lanes.recv().await {
            let Ok(LaneMessage::Batch(raw)) = LaneMessage::decode(frame.body) else { continue };
            let Ok(batch) = Batch::decode(attacker.network, raw.into()) else { continue };
            let expired = |entry: &Entry| Entry::new(entry.body().clone(), clock::now(), None);
            let entries = batch.entries().iter().map(|e| expired(e).expect("as short")).collect();
            let batch = attacker.batch(run, sequence, parent, entries);
            (sequence, parent) = (sequence + 1, batch.digest());
            push(attacker, &batch);
        }
    };
    join!(take_turns(cluster, attacker), copy);
}

async fn strange_batches(cluster: &Cluster, attacker: &Attacker) {
    let act = |number: u64| {
        let mut secret = [0x33; 32];
        secret[24..].copy_from_slice(&(number % 90).to_be_bytes());
        let key = SigningKey::from_bytes(secret).expect("a key");
        let place = (Incarnation(clock::now().0), Sequence(0));
        let entries = vec![long(&format!("strange {number} "), 100_000)];
        let batch = Batch::sign(attacker.network, place, BatchDigest::ZERO, entries, &key);
        push(attacker, &batch.expect("a batch"));
    };
    beside_turns(cluster, attacker, 50, act).await;
}

async fn stranger(cluster: &Cluster, attacker: &Attacker) {
    let keypair = keypair_from_seed([7; 32]);
    let unknown = join_mesh(&cluster.genesis, attacker.network, &keypair, 0).await;
    take_turns(cluster, attacker).await;
    drop(unknown);
}
