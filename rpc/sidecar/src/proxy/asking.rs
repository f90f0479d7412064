//! Finds out what the session asks: of the engine, the committee, the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_core::cursor::{L2Block, L2Header};
use lockstep_core::window::Offered;
use lockstep_execution::attributes::Quantity;
use lockstep_execution::client::{Engine, EngineError};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::debug;

use super::Proxy;
use crate::precheck::{self, Account, Ending, Facts, Fees, State};
use crate::session::effect::{CallId, EngineCall, Question};
use crate::session::input::{Forwarded, Reply};

impl Proxy {
    /// The reply to a question.
    pub(super) async fn find_out(&self, question: Question) -> Reply {
        let feed = &self.parts.feed;
        match question {
            Question::Forward(call) => Reply::Forwarded(self.forward_call(call).await),
            Question::Call(call) => Reply::Called(self.call_engine(call).await),
            Question::Head => Reply::Header(self.head().await),
            Question::Header(hash) => Reply::Header(self.header(hash).await),
            Question::Block(header) => Reply::Block(self.block(header).await),
            Question::Log { from, until } => Reply::Log(feed.blocks(from, until).await),
            Question::Limits(from) => Reply::Limits(feed.learn_limits(from).await),
            Question::HeightAfter(time) => Reply::Height(feed.height_after(time).await),
            Question::Facts { items, deposits } => Reply::Facts(self.facts(items, deposits).await),
            Question::State { parent, number, senders } => {
                let state = state(&self.parts.engine, parent, number, senders).await;
                Reply::State(state.map_err(not_checked).ok())
            }
            Question::Endings { block, senders } => {
                let endings = endings(&self.parts.engine, block, senders).await;
                Reply::Endings(endings.map_err(not_checked).unwrap_or_default())
            }
            Question::Keep => Reply::Kept(self.parts.keeper.write().await),
        }
    }

    async fn forward_call(&self, call: CallId) -> Forwarded {
        let body = self.calls().get(&call).map(|waiting| waiting.body.clone());
        // A call is waiting until it is answered, and the session answers after this.
        self.forward(body.unwrap_or_default()).await
    }

    async fn call_engine(&self, call: EngineCall) -> Result<Box<RawValue>, EngineError> {
        let engine = &self.parts.engine;
        match call {
            EngineCall::SetHeads { method, forkchoice } => {
                engine.call(&method, (&forkchoice, ())).await
            }
            EngineCall::Build { method, forkchoice, attributes, items, kept } => {
                let kept = kept.iter().filter_map(|index| items.get(*index));
                let transactions = kept.flat_map(|item| item.item.item.transactions());
                let attributes = attributes
                    .with_items(transactions)
                    .map_err(|error| EngineError::Unreachable(error.to_string()))?;
                engine.call(&method, (&forkchoice, &attributes)).await
            }
            EngineCall::GetPayload { method, payload_id } => {
                engine.call(&method, (&payload_id,)).await
            }
            EngineCall::NewPayload { method, params } => engine.call(&method, params).await,
        }
    }

    async fn head(&self) -> Result<Option<L2Header>, EngineError> {
        Ok(self.blocks.head().await?.map(|info| info.header()))
    }

    async fn header(&self, hash: B256) -> Result<Option<L2Header>, EngineError> {
        Ok(self.blocks.info(hash).await?.map(|info| info.header()))
    }

    async fn block(&self, header: L2Header) -> Result<Option<L2Block>, EngineError> {
        self.blocks.content(header).await
    }

    async fn facts(&self, items: Arc<[Offered]>, deposits: Vec<Bytes>) -> Vec<Option<Vec<Facts>>> {
        let (chain, count) = (self.parts.feed.chain(), items.len());
        let read = move || precheck::facts(chain, &items, Fees::of(&deposits));
        // What is not read is the engine's to judge.
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| vec![None; count])
    }
}

fn not_checked(error: EngineError) {
    debug!(%error, "items are not checked before the build");
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeeHistory {
    base_fee_per_gas: Vec<String>,
}

/// The state that the pre-check needs.
async fn state(
    engine: &Engine,
    parent: B256,
    number: Option<u64>,
    senders: BTreeSet<Address>,
) -> Result<State, EngineError> {
    let block = serde_json::json!({ "blockHash": parent });
    let mut calls = Vec::with_capacity(senders.len().saturating_mul(3).saturating_add(1));
    for sender in &senders {
        calls.push(("eth_getTransactionCount", serde_json::json!([sender, block])));
        calls.push(("eth_getCode", serde_json::json!([sender, block])));
        calls.push(("eth_getBalance", serde_json::json!([sender, block])));
    }
    let newest = number.map_or("latest".to_owned(), |number| format!("{number:#x}"));
    calls.push(("eth_feeHistory", serde_json::json!(["0x1", newest, []])));
    let mut answers = engine.batch(&calls).await?.into_iter();
    let mut state = State::default();
    for sender in senders {
        let nonce: Quantity = Engine::parse(answers.next())?;
        let code: Bytes = Engine::parse(answers.next())?;
        let balance: U256 = Engine::parse(answers.next())?;
        let account = Account { nonce: nonce.0, has_code: !code.is_empty(), balance };
        state.accounts.insert(sender, account);
    }
    let fees: Option<FeeHistory> = Engine::parse(answers.next()).ok();
    state.base_fee = fees
        .and_then(|fees| fees.base_fee_per_gas.last().cloned())
        .and_then(|fee| u128::from_str_radix(fee.strip_prefix("0x")?, 16).ok());
    Ok(state)
}

/// Accounts in the state at a block's end; those that the engine does not tell are left out.
async fn endings(
    engine: &Engine,
    block: B256,
    senders: BTreeSet<Address>,
) -> Result<BTreeMap<Address, Ending>, EngineError> {
    let at = serde_json::json!({ "blockHash": block });
    let methods = ["eth_getBalance", "eth_getTransactionCount"];
    let calls: Vec<_> = senders
        .iter()
        .flat_map(|sender| methods.map(|method| (method, serde_json::json!([sender, at]))))
        .collect();
    let mut answers = match calls.is_empty() {
        true => Vec::new().into_iter(),
        false => engine.batch(&calls).await?.into_iter(),
    };
    let mut endings = BTreeMap::new();
    for sender in senders {
        let balance = Engine::parse::<U256>(answers.next());
        let nonce = Engine::parse::<Quantity>(answers.next());
        if let (Ok(balance), Ok(Quantity(nonce))) = (balance, nonce) {
            endings.insert(sender, Ending { balance, nonce });
        }
    }
    Ok(endings)
}
