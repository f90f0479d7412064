//! What is wrong is refused with code, field and reason, and changes nothing.

use std::time::Duration;

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, uint};
use bytes::{Buf as _, BufMut as _};
use lockstep_core::limits::{ENTRY_BYTES_MAX, TRANSACTION_BYTES_MAX};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::error::{ErrorCode, Refusal};
use lockstep_proto::v1;
use lockstep_proto::v1::ingress_client::IngressClient;
use lockstep_rpc::client::Endpoint;
use lockstep_rpc::limits::MESSAGE_IN_BYTES_MAX;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{self, EVM_A, EVM_B, OPAQUE, expires_in};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

const ALL: [usize; 4] = [0, 1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(20);
/// The order of secp256k1.
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const EVM: i32 = v1::ChainKind::Evm as i32;

/// Sends bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

/// A transfer, signed as `spoil` wants it.
fn transfer(chain: ChainId, spoil: impl FnOnce(Signature) -> Signature) -> Bytes {
    let key = SigningKey::from_bytes([9; 32]).expect("a key");
    let transaction = TxEip1559 {
        chain_id: chain.0,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000,
        to: TxKind::Call(Address::ZERO),
        ..TxEip1559::default()
    };
    let signature = key.sign(transaction.signature_hash()).0;
    let number = |at: usize| U256::from_be_slice(&signature[at..at + 32]);
    let signature = Signature::new(number(0), number(32), signature[64] == 28);
    transaction.into_signed(spoil(signature)).encoded_2718().into()
}

fn good(chain: ChainId) -> Bytes {
    transfer(chain, |signature| signature)
}

struct Case {
    name: &'static str,
    code: ErrorCode,
    field: &'static str,
    reason: &'static str,
}

const fn case(
    name: &'static str,
    code: ErrorCode,
    field: &'static str,
    reason: &'static str,
) -> Case {
    Case { name, code, field, reason }
}

impl Case {
    fn check<T: core::fmt::Debug>(&self, answer: Result<T, Status>) {
        let Self { name, code, field, reason } = self;
        let status = match answer {
            Err(status) => status,
            Ok(answer) => panic!("{name} was accepted: {answer:?}"),
        };
        let refusal = Refusal::from_status(&status);
        assert_eq!((refusal.code, refusal.field.as_str()), (*code, *field), "{name}: {refusal:?}");
        assert!(refusal.reason.contains(reason), "{name}: {refusal:?}");
        assert!(!refusal.action.is_empty(), "{name}: {refusal:?}");
        assert_eq!(status.code(), code.status(), "{name}");
    }
}

fn transaction(chain: ChainId, kind: i32, raw: Bytes) -> v1::SubmitTransactionRequest {
    let transaction = Some(v1::Transaction { chain_id: chain.0, kind, raw: raw.0 });
    v1::SubmitTransactionRequest { transaction, ..Default::default() }
}

fn leg(chain: ChainId, transactions: &[Bytes]) -> v1::Leg {
    let transactions = transactions.iter().map(|bytes| bytes.0.clone()).collect();
    v1::Leg { chain_id: chain.0, kind: EVM, transactions }
}

fn bundle(legs: Vec<v1::Leg>) -> v1::SubmitBundleRequest {
    let guarantee = v1::Guarantee::CoOrdered.into();
    v1::SubmitBundleRequest { bundle: Some(v1::Bundle { legs, guarantee }), ..Default::default() }
}

async fn bad_protobuf(channel: &Channel) {
    let mut raw = tonic::client::Grpc::new(channel.clone());
    for (method, bytes) in [
        ("SubmitTransaction", vec![0xff, 0xff, 0xff]),
        ("SubmitBundle", vec![0x0a, 0x7f]),
        ("SubmitEntry", vec![0x08, 0x01]),
        ("GetStatus", vec![0x0a, 0x05, 0x01]),
    ] {
        raw.ready().await.expect("the node serves");
        let path = format!("/lockstep.v1.Ingress/{method}");
        let path = PathAndQuery::try_from(path).expect("a path");
        let answer = raw.unary(Request::new(bytes), path, Raw).await;
        case(method, ErrorCode::Malformed, "", "").check(answer);
    }
}

async fn bad_transactions(client: &mut IngressClient<Channel>) {
    use ErrorCode::{
        Expired, ExpiresTooLate, InvalidTransaction, Missing, OutOfRange, UnknownChain,
    };
    let typed =
        |byte: u8| Bytes::from([&[byte], good(EVM_A).get(1..).unwrap_or_default()].concat());
    let high_s = |s: Signature| Signature::new(s.r(), ORDER - s.s(), !s.v());
    let no_r = |s: Signature| Signature::new(U256::ZERO, s.s(), s.v());
    let truncated = Bytes::from(good(EVM_A)[..60].to_vec());
    let huge = Bytes::from(vec![2; TRANSACTION_BYTES_MAX + 1]);
    let opaque: i32 = v1::ChainKind::Opaque.into();
    let cases = [
        (
            case("bad EIP-2718", InvalidTransaction, "transaction", "canonical"),
            transaction(EVM_A, EVM, truncated),
        ),
        (
            case("wrong chain id", InvalidTransaction, "transaction", "901"),
            transaction(EVM_B, EVM, good(EVM_A)),
        ),
        (
            case("bad signature", InvalidTransaction, "transaction", "signature"),
            transaction(EVM_A, EVM, transfer(EVM_A, no_r)),
        ),
        (
            case("high s", InvalidTransaction, "transaction", "signature"),
            transaction(EVM_A, EVM, transfer(EVM_A, high_s)),
        ),
        (
            case("blobs", InvalidTransaction, "transaction", "0x03"),
            transaction(EVM_A, EVM, typed(3)),
        ),
        (
            case("deposit", InvalidTransaction, "transaction", "0x7e"),
            transaction(EVM_A, EVM, typed(0x7e)),
        ),
        (case("oversize", OutOfRange, "transaction.raw", ""), transaction(EVM_A, EVM, huge)),
        (case("no bytes", Missing, "transaction.raw", ""), transaction(EVM_A, EVM, Bytes::new())),
        (case("no kind", Missing, "transaction.kind", ""), transaction(EVM_A, 0, good(EVM_A))),
        (
            case("chain 0", Missing, "transaction.chain_id", ""),
            transaction(ChainId(0), EVM, good(EVM_A)),
        ),
        (
            case("unknown chain", UnknownChain, "transaction", "999"),
            transaction(ChainId(999), EVM, good(ChainId(999))),
        ),
        (
            case("other kind", UnknownChain, "transaction", "901"),
            transaction(EVM_A, opaque, good(EVM_A)),
        ),
    ];
    for (case, request) in cases {
        case.check(client.submit_transaction(request).await);
    }
    for (case, expires_ms) in [
        (case("expired", Expired, "expires_ms", "not after"), expires_in(0).0 - 1_000),
        (case("too late an expiry", ExpiresTooLate, "expires_ms", ""), expires_in(120_000).0),
    ] {
        let request = transaction(EVM_A, EVM, good(EVM_A));
        case.check(
            client.submit_transaction(v1::SubmitTransactionRequest { expires_ms, ..request }).await,
        );
    }
}

async fn bad_bundles(client: &mut IngressClient<Channel>) {
    use ErrorCode::{InvalidBundle, InvalidTransaction, OutOfRange, UnknownChain};
    let (a, b) = (leg(EVM_A, &[good(EVM_A)]), leg(EVM_B, &[good(EVM_B)]));
    let (twice, unknown) =
        (leg(EVM_A, &[good(EVM_A), good(EVM_A)]), leg(ChainId(999), &[good(ChainId(999))]));
    let cases = [
        (case("no legs", InvalidBundle, "bundle.legs", "0 legs"), vec![]),
        (case("one leg", InvalidBundle, "bundle.legs", "1 legs"), vec![a.clone()]),
        (
            case("empty leg", OutOfRange, "bundle.legs[1].transactions", ""),
            vec![a.clone(), leg(EVM_B, &[])],
        ),
        (
            case("duplicate leg", InvalidBundle, "bundle.legs", "two legs for chain 901"),
            vec![a.clone(), a.clone()],
        ),
        (case("unknown leg", UnknownChain, "bundle", "999"), vec![a.clone(), unknown]),
        (case("a transaction twice", InvalidBundle, "bundle.legs", "twice"), vec![twice, b]),
        (
            case("a leg of another chain", InvalidTransaction, "bundle", "902"),
            vec![a, leg(EVM_B, &[good(EVM_A)])],
        ),
    ];
    for (case, legs) in cases {
        case.check(client.submit_bundle(bundle(legs)).await);
    }
}

async fn bad_entries(client: &mut IngressClient<Channel>) {
    use ErrorCode::{InvalidEntry, MessageTooLarge, Missing, OutOfRange};
    let mut trailing = entries::opaque("trailing").raw().to_vec();
    trailing.push(0);
    let cases = [
        (case("no entry", Missing, "entry", ""), vec![]),
        (case("bad RLP", InvalidEntry, "entry", "RLP"), vec![0xc1]),
        (case("trailing bytes", InvalidEntry, "entry", "RLP"), trailing),
        (case("oversize entry", OutOfRange, "entry", ""), vec![0xc0; ENTRY_BYTES_MAX + 1]),
        (case("oversize message", MessageTooLarge, "", ""), vec![0xc0; MESSAGE_IN_BYTES_MAX + 1]),
    ];
    for (case, entry) in cases {
        let request = v1::SubmitEntryRequest { entry: entry.into(), wait: None };
        case.check(client.submit_entry(request).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let cluster = Cluster::of_four().await;
    let channel = Endpoint::new(cluster.node(0).endpoint()).connect().await.expect("it serves");
    let mut client = IngressClient::new(channel.clone());
    bad_protobuf(&channel).await;
    bad_transactions(&mut client).await;
    bad_bundles(&mut client).await;
    bad_entries(&mut client).await;

    let height = cluster.until_more(&ALL, 3, PATIENCE).await;
    for index in ALL {
        assert_eq!(cluster.node(index).metric("lockstep_batches_decided").await, 0);
        assert_eq!(cluster.node(index).metric("lockstep_entries_decided").await, 0);
    }
    let mut log = cluster.verified(1).await;
    for chain in [EVM_A, EVM_B, OPAQUE] {
        let range = log.range(chain, Height(1), height).await.expect("is proved");
        assert!(range.iter().all(|(_, slice)| slice.is_none()), "{range:?}");
    }
    cluster.assert_healthy(&ALL).await;

    // The same transaction without its faults is taken.
    let wait = Some(v1::Wait { state: v1::State::Decided.into(), timeout_ms: 8_000 });
    let request = v1::SubmitTransactionRequest { wait, ..transaction(EVM_A, EVM, good(EVM_A)) };
    let answer = client.submit_transaction(request).await.expect("is accepted").into_inner();
    assert!(answer.is_reached, "{answer:?}");
    cluster.assert_agreement(&ALL).await;
    cluster.finish().await;
}
