//! A session between a scripted engine and a log, in virtual time: nothing runs but what a test steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256, address};
use alloy_rlp::Encodable;
use lockstep_core::cursor::{L2Block, L2Header};
use lockstep_core::deposit::DEPOSITOR;
use lockstep_core::params::{ChainKind, ChainParams};
use lockstep_core::reader::LogView;
use lockstep_core::record::{Record, RecordBody};
use lockstep_core::records::RecordBook;
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::{Content, Item};
use lockstep_core::types::{BlockHash, ChainId, Height, NetworkId, UnixMillis};
use lockstep_core::window::LogSlice;
use lockstep_devnet::load::wallet::Wallet;
use lockstep_execution::blocks::BlockInfo;
use lockstep_execution::client::{EngineError, ErrorObject};
use lockstep_sidecar::config::{Role, WhenSilent};
use lockstep_sidecar::feed::{LogBlock, Newest};
use lockstep_sidecar::precheck::{self, Account, Ending, Fees, State};
use lockstep_sidecar::session::Session;
use lockstep_sidecar::session::effect::{
    Answer, AskId, CallId, Effect, EngineCall, Kept, Note, Question,
};
use lockstep_sidecar::session::heads::Wanted;
use lockstep_sidecar::session::input::{Call, Forwarded, Input, Log, Now, Reply};
use lockstep_sidecar::session::restoring::Brought;
use lockstep_sidecar::session::state::{Before, Settings};
use lockstep_tests::scripted_engine::EngineKind;
use lockstep_tests::scripted_engine::chain::{Chain, Failure};
use reqwest::StatusCode;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// Timestamp of block 0, seconds.
pub(crate) const START: u64 = 1_700_000_000;
/// Milliseconds from a window's end to its block's timestamp.
pub(crate) const LEAD_MS: u64 = 700;
const CHAIN: ChainId = ChainId(901);
const NETWORK: NetworkId = NetworkId(B256::repeat_byte(7));

/// The world.
pub(crate) struct World {
    pub(crate) engine: Chain,
    pub(crate) session: Session,
    /// The chain's slices, from height 1 on.
    pub(crate) log: Vec<Arc<LogBlock>>,
    pub(crate) book: RecordBook,
    /// Questions that are not answered yet, the oldest first.
    pub(crate) asked: Vec<(AskId, Question)>,
    /// Answers to op-node.
    pub(crate) answers: BTreeMap<CallId, Value>,
    /// Records that wait for the log.
    pub(crate) records: Vec<RecordBody>,
    /// What was brought to disk last.
    pub(crate) disk: Kept,
    /// Payloads and heads on disk.
    pub(crate) payloads: Vec<(B256, Brought)>,
    pub(crate) wanted: Option<Wanted>,
    /// Whether the engine cannot be reached.
    pub(crate) is_away: bool,
    pub(crate) notes: Vec<Note>,
    /// How many questions were answered.
    pub(crate) questions: usize,
    settings: Settings,
    calls: BTreeMap<CallId, (String, Value)>,
    begun: Instant,
    /// Milliseconds since the beginning.
    pub(crate) time_ms: u64,
    arrived_ms: u64,
    next_call: u64,
    users: u64,
    /// What op-node has in its heads, and what makes its next job another one.
    pub(crate) entropy: u8,
}

fn settings(role: Role, when_silent: WhenSilent) -> Settings {
    let params = ChainParams {
        id: CHAIN,
        kind: ChainKind::Evm,
        block_time_ms: 1_000,
        gas_per_second: 60_000_000,
        bytes_per_second: 1 << 24,
        sequencers: vec![key().address()],
        gateways: Vec::new(),
        transaction_gas_max: 1 << 24,
        joins_at: START + 1,
    };
    Settings { params, lead_ms: LEAD_MS, role, when_silent, has_key: role == Role::Sequencing }
}

fn key() -> SigningKey {
    SigningKey::from_bytes([0x21; 32]).unwrap()
}

/// A call of the engine, as the scripted one takes it.
fn written(call: &EngineCall) -> (String, Value) {
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap();
    match call {
        EngineCall::SetHeads { method, forkchoice } => {
            (method.clone(), json!([value(forkchoice), null]))
        }
        EngineCall::Build { method, forkchoice, attributes, items, kept } => {
            let items = kept.iter().flat_map(|index| items[*index].item.item.transactions());
            let attributes = attributes.with_items(items).unwrap();
            (method.clone(), json!([value(forkchoice), value(&attributes)]))
        }
        EngineCall::GetPayload { method, payload_id } => {
            (method.clone(), json!([value(payload_id)]))
        }
        EngineCall::NewPayload { method, params } => {
            (method.clone(), params.iter().map(|raw| value(raw)).collect())
        }
    }
}

fn refused(failure: Failure) -> EngineError {
    let Failure { code, message, data } = failure;
    let data = data.map(|words| json!({ "err": words }));
    let error = json!({ "code": code, "message": message, "data": data });
    let error: ErrorObject = serde_json::from_value(error).unwrap();
    EngineError::Refused(Box::new(error))
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Role::Sequencing, WhenSilent::Halt)
    }

    pub(crate) fn of(role: Role, when_silent: WhenSilent) -> Self {
        let settings = settings(role, when_silent);
        let mut world = Self {
            engine: Chain::new(EngineKind::OpGeth, START, 30_000_000),
            session: Session::new(settings.clone(), Before::default()),
            log: Vec::new(),
            book: RecordBook::default(),
            asked: Vec::new(),
            answers: BTreeMap::new(),
            records: Vec::new(),
            disk: Kept::default(),
            payloads: Vec::new(),
            wanted: None,
            is_away: false,
            notes: Vec::new(),
            questions: 0,
            settings,
            calls: BTreeMap::new(),
            begun: Instant::now(),
            time_ms: START * 1_000,
            arrived_ms: START * 1_000,
            next_call: 0,
            users: 0,
            entropy: 0xe0,
        };
        world.book.note_limits(Height(1), &[], true);
        world.decide(START * 1_000 + 10, Vec::new());
        world
    }

    /// A sidecar that was killed and starts with this disk.
    pub(crate) fn restart(&mut self, disk: Before) {
        self.session = Session::new(self.settings.clone(), disk);
        self.asked.clear();
        self.calls.clear();
    }

    pub(crate) fn newest(&self) -> Newest {
        let last = self.log.last();
        Newest {
            height: last.map_or(Height::GENESIS, |block| block.slice.height),
            timestamp: last.map_or(UnixMillis(0), |block| block.slice.timestamp),
            is_forked: false,
        }
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        let since = Duration::from_millis(self.time_ms - START * 1_000);
        let now = Now { instant: self.begun + since, unix_ms: self.time_ms };
        let silence = Duration::from_millis(self.time_ms - self.arrived_ms);
        let log = Log { book: &self.book, newest: self.newest(), silence };
        self.session.step(now, log, input, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Ask(ask, question) => self.asked.push((ask, question)),
            Effect::Answer(call, answer) => {
                let answer = match answer {
                    Answer::Engine { forwarded, .. } => serde_json::from_slice(&forwarded.body)
                        .unwrap_or_else(|_| json!({ "away": forwarded.status.as_u16() })),
                    Answer::Result(raw) => {
                        json!({ "result": serde_json::from_str::<Value>(raw.get()).unwrap() })
                    }
                    Answer::Error { code, message } => {
                        json!({ "error": { "code": code, "message": message } })
                    }
                };
                assert!(self.calls.remove(&call).is_some(), "{call:?} is answered once");
                self.answers.insert(call, answer);
            }
            Effect::Record(body) => self.records.push(body),
            Effect::Note(note) => self.notes.push(note),
            Effect::KeepPayload(hash, payload) => self.payloads.push((hash, (*payload).clone())),
            Effect::KeepHeads(wanted) => self.wanted = Some(wanted),
            Effect::Limit { .. }
            | Effect::KeepSafe(..)
            | Effect::Skipped(_)
            | Effect::Measure(_) => {}
        }
    }

    /// op-node asks for the newest block.
    pub(crate) fn ask_latest(&mut self) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(id, ("eth_getBlockByNumber".to_owned(), json!(["latest", false])));
        self.step(Input::Called(id, Call::Other));
        id
    }

    fn forward(&mut self, call: CallId) -> Value {
        let (method, params) = self.calls[&call].clone();
        match self.engine.call(&method, &params) {
            Ok(result) => json!({ "result": result }),
            Err(failure) => {
                json!({ "error": { "code": failure.code, "message": failure.message } })
            }
        }
    }

    /// op-node calls.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let raw: Vec<Box<RawValue>> =
            params.as_array().unwrap().iter().map(|value| to_raw_value(value).unwrap()).collect();
        let borrowed: Vec<&RawValue> = raw.iter().map(|raw| &**raw).collect();
        let call = Call::read(method, &borrowed).unwrap();
        self.calls.insert(id, (method.to_owned(), params));
        self.step(Input::Called(id, call));
        id
    }

    /// Answers the question at a place among those that are asked.
    pub(crate) fn reply(&mut self, place: usize) {
        let (ask, question) = self.asked.remove(place);
        self.questions += 1;
        let reply = self.find_out(question);
        self.step(Input::Replied(ask, reply));
    }

    /// Answers all questions, until there are none.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.asked.is_empty() {
                return;
            }
            self.reply(0);
        }
        panic!("questions without end: {:?}", self.asked);
    }

    fn find_out(&mut self, question: Question) -> Reply {
        let away = || EngineError::Unreachable("no connection".to_owned());
        match question {
            Question::Forward(_) if self.is_away => {
                Reply::Forwarded(Forwarded::away("no connection".to_owned(), Duration::ZERO))
            }
            Question::Call(_) if self.is_away => Reply::Called(Err(away())),
            Question::Head | Question::Header(_) if self.is_away => Reply::Header(Err(away())),
            Question::Block(_) if self.is_away => Reply::Block(Err(away())),
            Question::Head => Reply::Header(Ok(self.header(self.engine.head))),
            Question::Forward(call) => {
                let body = self.forward(call).to_string().into_bytes().into();
                Reply::Forwarded(Forwarded { status: StatusCode::OK, body, time: Duration::ZERO })
            }
            Question::Call(call) => {
                let (method, params) = written(&call);
                let result = self.engine.call(&method, &params);
                Reply::Called(result.map(|it| to_raw_value(&it).unwrap()).map_err(refused))
            }
            Question::Header(hash) => Reply::Header(Ok(self.header(hash))),
            Question::Block(header) => {
                Reply::Block(Ok(self.header(header.hash).map(|_| self.block(header))))
            }
            Question::Log { from, until } => Reply::Log(Ok(self.slices(from, until))),
            Question::Limits(from) => {
                self.book.note_limits(from, &[], true);
                Reply::Limits(Ok(()))
            }
            Question::HeightAfter(time) => {
                let first = self.log.iter().find(|block| block.slice.timestamp > time);
                Reply::Height(Ok(first.expect("it is closed").slice.height))
            }
            Question::Facts { items, deposits } => {
                Reply::Facts(precheck::facts(CHAIN, &items, Fees::of(&deposits)))
            }
            Question::State { senders, .. } => {
                let account = Account { nonce: 0, has_code: false, balance: U256::from(u128::MAX) };
                let accounts = senders.into_iter().map(|sender| (sender, account)).collect();
                Reply::State(Some(State { accounts, base_fee: Some(1) }))
            }
            Question::Endings { senders, .. } => {
                let ending = Ending { balance: U256::from(u128::MAX), nonce: 1 };
                Reply::Endings(senders.into_iter().map(|sender| (sender, ending)).collect())
            }
            Question::Keep => {
                self.disk = self.kept();
                Reply::Kept(true)
            }
        }
    }

    /// What is known and would be on disk if it was written now.
    pub(crate) fn kept(&mut self) -> Kept {
        let newest = self.newest().timestamp;
        self.session.kept(LogView { book: &self.book, newest })
    }

    fn header(&mut self, hash: B256) -> Option<L2Header> {
        let header = self.engine.call("eth_getBlockByHash", &json!([hash])).unwrap();
        let info: Option<BlockInfo> = serde_json::from_value(header).unwrap();
        info.map(|info| info.header())
    }

    pub(crate) fn block(&self, header: L2Header) -> L2Block {
        L2Block::new(header, self.engine.blocks[&header.hash].transactions.clone())
    }

    fn slices(&self, from: Height, until: UnixMillis) -> Vec<Arc<LogBlock>> {
        let from = usize::try_from(from.0.max(1) - 1).unwrap();
        let within = self.log.iter().skip(from).take_while(|it| it.slice.timestamp <= until);
        let within: Vec<_> = within.cloned().collect();
        let next = self.log.get(from + within.len()).cloned();
        within.into_iter().chain(next).collect()
    }

    /// The engine's chain up to its head, the oldest first, without block 0.
    pub(crate) fn canonical(&mut self) -> Vec<L2Block> {
        let (mut at, mut blocks) = (self.engine.head, Vec::new());
        while let Some(header) = self.header(at).filter(|header| header.number > 0) {
            blocks.push(self.block(header));
            at = header.parent;
        }
        blocks.reverse();
        blocks
    }

    /// Time goes on by as much.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.time_ms += ms;
        self.step(Input::Tick);
    }

    /// Decides a log block with this time.
    pub(crate) fn decide(&mut self, time_ms: u64, contents: Vec<Content>) {
        let height = Height(self.log.len() as u64 + 1);
        let items = (0u32..).zip(contents).map(|(index, content)| Item { index, content });
        let time = UnixMillis(time_ms.max(self.newest().timestamp.0 + 1));
        let slice = LogSlice::new(height, time, ChainKind::Evm, items.collect());
        self.book.note(&slice);
        self.log.push(Arc::new(LogBlock { hash: BlockHash::ZERO, slice }));
        self.time_ms = self.time_ms.max(time.0);
        self.arrived_ms = self.time_ms;
        self.step(Input::LogAdvanced);
    }

    /// The records that wait, as they come into the log.
    pub(crate) fn submitted(&mut self) -> Vec<Content> {
        let sign = |body| Content::Record(Record::sign(NETWORK, CHAIN, body, &key()));
        std::mem::take(&mut self.records).into_iter().map(sign).collect()
    }

    /// Fresh transfers of users who never sent anything.
    pub(crate) fn transfers(&mut self, count: usize) -> Vec<Bytes> {
        let mut transfer = || {
            self.users += 1;
            Wallet::new(CHAIN, 1, B256::from(U256::from(self.users))).transfer()
        };
        (0..count).map(|_| transfer()).collect()
    }

    /// Decides fresh transfers in the window of the block with this timestamp, and closes it.
    pub(crate) fn fill(&mut self, timestamp: u64, count: usize) -> Vec<Bytes> {
        let transfers = self.transfers(count);
        let content = |bytes: &Bytes| Content::Transaction { bytes: bytes.clone() };
        let end = timestamp * 1_000 - LEAD_MS;
        self.decide(end - 100, transfers.iter().map(content).collect());
        self.decide(end + 50, Vec::new());
        transfers
    }

    pub(crate) fn heads(&self, head: B256) -> Value {
        json!({ "headBlockHash": head, "safeBlockHash": B256::ZERO, "finalizedBlockHash": B256::ZERO })
    }

    pub(crate) fn attributes(&self, timestamp: u64) -> Value {
        json!({
            "timestamp": format!("{timestamp:#x}"),
            "prevRandao": B256::repeat_byte(self.entropy),
            "suggestedFeeRecipient": "0x4200000000000000000000000000000000000011",
            "withdrawals": [],
            "parentBeaconBlockRoot": B256::ZERO,
            "transactions": [deposit(timestamp)],
            "gasLimit": "0x1c9c380",
            "eip1559Params": "0x000000fa00000006",
            "minBaseFee": 1,
        })
    }

    /// The timestamp of the next block on a head.
    pub(crate) fn next(&self, head: B256) -> u64 {
        self.engine.blocks[&head].timestamp + 1
    }

    /// op-node starts a job on a head.
    pub(crate) fn start_job(&mut self, head: B256) -> CallId {
        let params = json!([self.heads(head), self.attributes(self.next(head))]);
        self.call("engine_forkchoiceUpdatedV3", params)
    }

    pub(crate) fn get_payload(&mut self, id: &Value) -> CallId {
        self.call("engine_getPayloadV4", json!([id]))
    }

    /// op-node brings a payload back and makes it the head, if the engine takes it.
    pub(crate) fn adopt(&mut self, envelope: &Value) -> Vec<CallId> {
        let mut payload = envelope["executionPayload"].clone();
        payload.as_object_mut().unwrap().remove("slotNumber");
        let hash: B256 = serde_json::from_value(payload["blockHash"].clone()).unwrap();
        let params = json!([payload, [], B256::ZERO, []]);
        let brought = self.call("engine_newPayloadV4", params);
        self.settle();
        let is_in = self.answers.get(&brought).is_some_and(|it| it["result"]["status"] == "VALID");
        if !is_in {
            return vec![brought];
        }
        let heads = json!([self.heads(hash), null]);
        vec![brought, self.call("engine_forkchoiceUpdatedV3", heads)]
    }

    /// The answer to a call, if there is one.
    pub(crate) fn answer(&self, call: CallId) -> Option<&Value> {
        self.answers.get(&call)
    }

    /// A whole block on the head; its users' transactions.
    pub(crate) fn block_on_head(&mut self) -> Vec<Bytes> {
        let job = self.start_job(self.engine.head);
        self.settle();
        let id = self.answers[&job]["result"]["payloadId"].clone();
        let call = self.get_payload(&id);
        self.settle();
        let envelope = self.answers[&call]["result"].clone();
        assert!(envelope.is_object(), "{}", self.answers[&call]);
        self.adopt(&envelope);
        self.settle();
        users(&envelope)
    }
}

/// The users' transactions of a payload.
pub(crate) fn users(envelope: &Value) -> Vec<Bytes> {
    let all = envelope["executionPayload"]["transactions"].clone();
    let all: Vec<Bytes> = serde_json::from_value(all).unwrap();
    all.into_iter().filter(|bytes| bytes[0] != 0x7e).collect()
}

/// The L1-attributes deposit of Jovian, without fees.
fn deposit(timestamp: u64) -> Bytes {
    let mut data = vec![0x3d, 0xb6, 0xbe, 0x2b];
    data.extend([0; 8]);
    for field in [timestamp - START, START, 9] {
        data.extend(field.to_be_bytes());
    }
    data.resize(164, 0xee);
    data.extend([0; 4]);
    data.extend(0u64.to_be_bytes());
    data.extend(400u16.to_be_bytes());
    let to = address!("4200000000000000000000000000000000000015");
    let from: Address = DEPOSITOR;
    let fields: [&dyn Encodable; 8] =
        [&B256::repeat_byte(1), &from, &to, &0u8, &0u8, &1_000_000u64, &false, &data.as_slice()];
    let mut bytes = vec![0x7e];
    alloy_rlp::encode_list::<&dyn Encodable, dyn Encodable>(&fields, &mut bytes);
    bytes.into()
}
