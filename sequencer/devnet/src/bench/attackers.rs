//! What clients that attack send: entries, reads, or nothing at all over as many connections as they can open.
//!
//! They are 200 connections from 64 addresses, because quotas and shares are per address. They share the machine with the
//! validators and the honest load, so each attack has a rate of its own, far above what its chain takes and far below
//! what the machine can send. What they send costs them little: the bytes of an entry are made once, and each copy has
//! another number at its end. Whatever a node answers, they go on; they connect again where it closes a connection.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Bytes, TxKind, U256, keccak256};
use eyre::WrapErr as _;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, EntryId, Height, UnixMillis};
use lockstep_node::clock;
use lockstep_node::descriptors;
use lockstep_proto::convert::ingress::StatusKey;
use lockstep_proto::convert::log::SlicesQuery;
use lockstep_proto::v1;
use lockstep_rpc::client::{
    ClientError, Endpoint, IngressClient, LogClient, StreamReceiver, StreamSender,
};
use lockstep_rpc::limits::CONNECTIONS_PER_CLIENT_MAX;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::cluster::{Cluster, VALIDATORS};
use crate::load::wallet;

/// Clients that submit or read, each with a connection to one validator.
const CLIENTS: u64 = 200;
/// Addresses of the clients: 127.1.0.1 to 127.1.0.64.
const ADDRESSES: u64 = 64;
/// Messages of all clients per second; at higher rates a message has more entries.
const MESSAGES_PER_SECOND: u64 = 1_000;
/// After so long a client makes the bytes of its entries anew, in milliseconds, because they expire.
const RENEW_MS: u64 = 10_000;
/// How long entries live, in milliseconds: until after they are made anew, and less than the log allows.
const EXPIRES_MS: u64 = 30_000;
/// Expiries of the copies of one transaction, in milliseconds.
const COPY_EXPIRIES_MS: u64 = 25_000;
/// Before a client connects again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Streams of slices that a client opens and never reads: of all of them, 800 at each validator, which has 768 to give.
const UNREAD_STREAMS: usize = 16;
/// A chain that is not registered.
const UNKNOWN_CHAIN: ChainId = ChainId(77_777);
/// Idle connections that are opened per second, at most.
const IDLE_PER_SECOND: u32 = 1_000;
/// File descriptors that idle connections leave to the rest of this process.
const DESCRIPTORS_LEFT: u64 = 1_000;
/// What HTTP/2 begins with: the preface, and a SETTINGS frame without settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What all clients do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attack {
    /// They submit.
    Submit {
        /// What.
        content: Content,
        /// Entries of all clients per second.
        per_second: u64,
    },
    /// They read.
    Read {
        /// What.
        what: Reads,
        /// A chain.
        chain: ChainId,
        /// Calls of all clients per second.
        per_second: u64,
    },
    /// They open connections, 64 from each address to each validator, and say nothing.
    Idle,
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reads {
    /// The states of entries and of transactions that nobody knows.
    Unknown,
    /// The slices of a thousand heights, of the chain and of one that is not registered.
    Slices,
    /// [`UNREAD_STREAMS`] streams of the chain's slices per client, from height 1 on, that the client does not read.
    Streams,
}

/// What is submitted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// Opaque transactions of so many bytes, all different.
    Opaque(ChainId, usize),
    /// Transfers that declare so much gas, all different: a valid signature, with another signer for each.
    Transfers(ChainId, u64),
    /// One transfer per client, with another expiry each time.
    Copies(ChainId),
}

/// What the clients did, all together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    asked: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    fn ask(&self, count: usize, bytes: usize) {
        self.asked.fetch_add(count as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn refuse(&self, count: usize) {
        self.refused.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Submissions, calls or connections; of them, how many were refused; and bytes of entries.
    pub(super) fn read(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.asked), of(&self.refused), of(&self.bytes))
    }
}

/// Attacking clients. Dropping them ends the attack.
#[derive(Debug)]
pub(super) struct Attackers {
    /// What they did so far.
    pub(super) tally: Arc<Tally>,
    _clients: JoinSet<()>,
}

impl Attackers {
    /// Begins an attack.
    ///
    /// # Errors
    /// If it can't be made: a chain's entry is invalid, or there are no file descriptors.
    pub(super) fn start(attack: Attack, cluster: &Cluster) -> eyre::Result<Self> {
        let (tally, mut clients) = (Arc::new(Tally::default()), JoinSet::new());
        let urls = cluster.endpoints();
        match attack {
            Attack::Submit { content, per_second } => {
                for number in 0..CLIENTS {
                    let maker = Maker::new(content, number)?;
                    let per_message = per_second.div_ceil(MESSAGES_PER_SECOND).max(1);
                    let turns = Turns::new(per_second, per_message);
                    let client = Client::new(number, &urls, turns, tally.clone());
                    clients.spawn(client.submit(maker));
                }
            }
            Attack::Read { what, chain, per_second } => {
                for number in 0..CLIENTS {
                    let turns = Turns::new(per_second, 1);
                    let client = Client::new(number, &urls, turns, tally.clone());
                    clients.spawn(client.read(what, chain));
                }
            }
            Attack::Idle => {
                let count = idle_per_address()?;
                let ports = cluster.layout.places.iter().map(|place| place.ports.grpc);
                let nodes: Vec<_> =
                    ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
                for number in 0..ADDRESSES {
                    let idle = Idle { from: address(number), nodes: nodes.clone(), count };
                    clients.spawn(idle.run(tally.clone()));
                }
            }
        }
        Ok(Self { tally, _clients: clients })
    }
}

fn address(number: u64) -> Ipv4Addr {
    let last = number.checked_rem(ADDRESSES).unwrap_or_default().saturating_add(1);
    Ipv4Addr::new(127, 1, 0, u8::try_from(last).unwrap_or(u8::MAX))
}

/// When a client sends.
#[derive(Clone, Copy, Debug)]
struct Turns {
    /// Entries of one message; 1 for calls.
    per_message: u64,
    /// Between two messages.
    period: Duration,
}

impl Turns {
    /// So many per second of all clients.
    fn new(per_second: u64, per_message: u64) -> Self {
        let micros = CLIENTS.saturating_mul(per_message).saturating_mul(1_000_000);
        let micros = micros.checked_div(per_second).unwrap_or(micros);
        Self { per_message, period: Duration::from_micros(micros) }
    }
}

/// One client.
#[derive(Debug)]
struct Client {
    number: u64,
    endpoint: Endpoint,
    turns: Turns,
    tally: Arc<Tally>,
}

impl Client {
    /// Clients of one address are spread over the validators.
    fn new(number: u64, urls: &[String], turns: Turns, tally: Arc<Tally>) -> Self {
        let round = number.checked_div(ADDRESSES).unwrap_or_default();
        let place = number.saturating_add(round).checked_rem(VALIDATORS.into()).unwrap_or_default();
        let url = usize::try_from(place).ok().and_then(|place| urls.get(place));
        let local_address = Some(IpAddr::V4(address(number)));
        let endpoint =
            Endpoint { local_address, ..Endpoint::new(url.cloned().unwrap_or_default()) };
        Self { number, endpoint, turns, tally }
    }

    /// Ticks at which the clients take turns, so that they do not all send at once.
    async fn ticks(&self) -> Interval {
        let period = self.turns.period;
        let turn = period.checked_div(u32::try_from(CLIENTS).unwrap_or(1)).unwrap_or_default();
        sleep(turn.saturating_mul(u32::try_from(self.number).unwrap_or_default())).await;
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    async fn submit(self, mut maker: Maker) {
        let mut ticks = self.ticks().await;
        // A session ends when the node is unreachable or closes the connection.
        while self.submit_once(&mut maker, &mut ticks).await.is_err() {
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Submits until the connection ends, which is an error.
    async fn submit_once(
        &self,
        maker: &mut Maker,
        ticks: &mut Interval,
    ) -> Result<Infallible, ClientError> {
        let channel = self.endpoint.connect().await?;
        let (sender, receiver) = IngressClient::new(channel).open_stream().await?;
        tokio::select! {
            ended = self.send(sender, maker, ticks) => ended,
            ended = self.count_refusals(receiver) => ended,
        }
    }

    async fn send(
        &self,
        mut sender: StreamSender,
        maker: &mut Maker,
        ticks: &mut Interval,
    ) -> Result<Infallible, ClientError> {
        loop {
            ticks.tick().await;
            let now = clock::now();
            let entries: Vec<Bytes> =
                (0..self.turns.per_message).map(|_| maker.next(now)).collect();
            self.tally.ask(entries.len(), entries.iter().map(|entry| entry.len()).sum());
            sender.send_submissions(entries.into_iter().map(submission).collect()).await?;
        }
    }

    async fn count_refusals(&self, mut answers: StreamReceiver) -> Result<Infallible, ClientError> {
        while let Some((_, answers)) = answers.next().await? {
            self.tally.refuse(answers.iter().filter(|answer| answer.is_err()).count());
        }
        Err(ClientError::Ended)
    }

    async fn read(self, what: Reads, chain: ChainId) {
        let mut ticks = self.ticks().await;
        let channel = loop {
            match self.endpoint.connect().await {
                Ok(channel) => break channel,
                Err(_) => sleep(RECONNECT_PAUSE).await,
            }
        };
        let (mut log, mut ingress) = (LogClient::new(channel.clone()), IngressClient::new(channel));
        let mut unread = Vec::new();
        for call in 0u64.. {
            ticks.tick().await;
            let seed = [self.number.to_be_bytes(), call.to_be_bytes()].concat();
            let answer = match what {
                Reads::Unknown => ingress.status(unknown(&seed, chain)).await.map(|_| ()),
                Reads::Slices if call % 2 == 0 => log.slices(thousand(chain)).await.map(|_| ()),
                Reads::Slices => log.slices(thousand(UNKNOWN_CHAIN)).await.map(|_| ()),
                Reads::Streams if unread.len() == UNREAD_STREAMS => continue,
                Reads::Streams => {
                    let stream = log.stream_slices(chain, Some(Height(1))).await;
                    stream.map(|stream| unread.push(stream))
                }
            };
            self.tally.ask(1, 0);
            self.tally.refuse(usize::from(answer.is_err_and(|error| !error.is_not_found())));
        }
    }
}

fn submission(entry: Bytes) -> v1::Submission {
    let body = Some(v1::submission::Body::Entry(entry.0));
    v1::Submission { body, ..v1::Submission::default() }
}

fn thousand(chain: ChainId) -> SlicesQuery {
    SlicesQuery { chain, from: Height(1), to: Height(1_000) }
}

/// An entry or a transaction that nobody knows.
fn unknown(seed: &[u8], chain: ChainId) -> StatusKey {
    let hash = keccak256(seed);
    match hash.0 {
        [byte, ..] if byte < 128 => StatusKey::Id(EntryId(hash)),
        _ => StatusKey::Transaction(chain, hash),
    }
}

/// Makes the entries of one client.
#[derive(Debug)]
struct Maker {
    content: Content,
    client: u64,
    /// How many it made.
    count: u64,
    template: Entry,
    made: UnixMillis,
}

impl Maker {
    fn new(content: Content, client: u64) -> eyre::Result<Self> {
        let now = clock::now();
        let template = template(content, client, now)?;
        Ok(Self { content, client, count: 0, template, made: now })
    }

    /// The bytes of another entry.
    fn next(&mut self, now: UnixMillis) -> Bytes {
        self.count = self.count.saturating_add(1);
        if now >= self.made.plus(RENEW_MS)
            && let Ok(template) = template(self.content, self.client, now)
        {
            (self.template, self.made) = (template, now);
        }
        match self.content {
            Content::Opaque(..) | Content::Transfers(..) => {
                numbered(self.template.raw(), self.client << 40 | self.count)
            }
            Content::Copies(_) => {
                let more = self.count.checked_rem(COPY_EXPIRIES_MS).unwrap_or_default();
                let expires = now.plus(EXPIRES_MS).plus(more);
                let copy = Entry::new(self.template.body().clone(), expires, None);
                copy.map(|copy| copy.raw().clone()).unwrap_or_default()
            }
        }
    }
}

/// The entry with a number in place of its last eight bytes. They are the end of opaque bytes, or of a signature's `s`,
/// which recovers to some signer whatever they are.
fn numbered(raw: &[u8], number: u64) -> Bytes {
    let mut raw = raw.to_vec();
    if let Some(end) = raw.last_chunk_mut() {
        *end = number.to_be_bytes();
    }
    raw.into()
}

/// The entry from which a client makes its own.
fn template(content: Content, client: u64, now: UnixMillis) -> eyre::Result<Entry> {
    let (chain, kind, bytes) = match content {
        Content::Opaque(chain, count) => (chain, ChainKind::Opaque, vec![0x5a; count].into()),
        Content::Transfers(chain, gas) => (chain, ChainKind::Evm, transfer(chain, client, gas)?),
        Content::Copies(chain) => (chain, ChainKind::Evm, transfer(chain, client, 21_000)?),
    };
    let body = Body::Transaction(Transaction { chain, kind, bytes });
    Entry::new(body, now.plus(EXPIRES_MS), None).wrap_err("making an attacker's entry")
}

fn transfer(chain: ChainId, nonce: u64, gas_limit: u64) -> eyre::Result<Bytes> {
    let key = SigningKey::from_bytes([0x77; 32]).wrap_err("an attacker's key")?;
    let transaction = TxEip1559 {
        chain_id: chain.0,
        nonce,
        gas_limit,
        max_fee_per_gas: 1_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(key.address()),
        value: U256::from(1),
        access_list: Default::default(),
        input: Bytes::new(),
    };
    Ok(wallet::sign(transaction, &key))
}

/// Idle connections of one address.
#[derive(Debug)]
struct Idle {
    from: Ipv4Addr,
    nodes: Vec<SocketAddr>,
    count: usize,
}

/// Idle connections that each address may have, over all validators: its share, or what the file descriptors suffice for.
fn idle_per_address() -> eyre::Result<usize> {
    let limit = descriptors::raise()?.saturating_sub(DESCRIPTORS_LEFT);
    let each = limit.checked_div(ADDRESSES).unwrap_or_default();
    let share = CONNECTIONS_PER_CLIENT_MAX.saturating_mul(VALIDATORS.into());
    Ok(usize::try_from(each).unwrap_or(usize::MAX).min(share))
}

impl Idle {
    /// Opens the connections one after the other, and again those that were closed.
    async fn run(self, tally: Arc<Tally>) {
        let mut held: Vec<Option<TcpStream>> = Vec::new();
        held.resize_with(self.count, || None);
        let period = Duration::from_secs(ADDRESSES).checked_div(IDLE_PER_SECOND);
        let mut ticks = interval(period.unwrap_or(RECONNECT_PAUSE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for (stream, node) in held.iter_mut().zip(self.nodes.iter().cycle()) {
                ticks.tick().await;
                if stream.as_ref().is_some_and(is_open) {
                    continue;
                }
                tally.refuse(usize::from(stream.is_some()));
                tally.ask(1, 0);
                *stream = open(self.from, *node).await.ok();
                tally.refuse(usize::from(stream.is_none()));
            }
        }
    }
}

async fn open(from: Ipv4Addr, node: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(node).await?;
    stream.write_all(PREFACE).await?;
    Ok(stream)
}

/// Whether the node has not closed it. Reads away what it said.
fn is_open(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 1_024]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lockstep_core::types::NetworkId;

    use super::*;

    const CHAIN: ChainId = ChainId(901);

    fn entries(content: Content) -> Vec<Entry> {
        let now = clock::now();
        let mut makers = [1, 2].map(|client| Maker::new(content, client).unwrap());
        let raw = makers.iter_mut().flat_map(|maker| {
            (0..10).map(|n| maker.next(now.plus(n * RENEW_MS))).collect::<Vec<_>>()
        });
        raw.map(|raw| Entry::decode(raw).unwrap()).collect()
    }

    #[test]
    fn every_entry_of_a_flood_is_valid_and_another() {
        for content in [Content::Opaque(CHAIN, 10_000), Content::Transfers(CHAIN, 128_000_000)] {
            let entries = entries(content);
            let ids: BTreeSet<_> = entries.iter().map(Entry::id).collect();
            assert_eq!(ids.len(), 20, "{content:?}");
            for entry in entries {
                entry.check(NetworkId::ZERO).expect("is valid");
            }
        }
    }

    #[test]
    fn copies_of_a_transfer_differ_in_their_expiry_alone() {
        let entries = entries(Content::Copies(CHAIN));
        let ids: BTreeSet<_> = entries.iter().map(Entry::id).collect();
        let bytes: BTreeSet<_> = entries.iter().map(|entry| entry.raw().to_vec()).collect();
        assert_eq!((ids.len(), bytes.len()), (2, 20));
    }

    #[test]
    fn clients_of_one_address_are_at_different_validators() {
        let urls: Vec<String> = (0..4).map(|n| format!("http://127.0.0.1:{n}")).collect();
        let seats = (0..CLIENTS).map(|number| {
            let endpoint = Client::new(number, &urls, Turns::new(1, 1), Arc::default()).endpoint;
            (endpoint.local_address, endpoint.url)
        });
        let seats: Vec<_> = seats.collect();
        assert_eq!(seats.iter().collect::<BTreeSet<_>>().len(), seats.len());
        let first = seats.iter().filter(|(_, url)| url.ends_with(":0")).count();
        assert_eq!(first, seats.len() / 4);
    }
}
