//! From bytes to an entry, and from an entry to a checked one: each refusal by name.

use alloy_primitives::keccak256;
use alloy_rlp::Error;

use super::*;
use crate::block::fixtures::{evm, key};
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::record::{Limits, Preparation, Prepared, RecordBody};

const CHAIN: ChainId = ChainId(901);
const NETWORK: NetworkId = NetworkId(B256::repeat_byte(9));
const EXPIRES: UnixMillis = UnixMillis(1_700_000_000_000);

fn transaction(chain: ChainId, kind: ChainKind, bytes: impl Into<Bytes>) -> Body {
    Body::Transaction(Transaction { chain, kind, bytes: bytes.into() })
}

fn opaque(size: usize) -> Body {
    transaction(CHAIN, ChainKind::Opaque, vec![1; size])
}

fn leg(chain: u64, kind: ChainKind, transactions: Vec<Bytes>) -> Leg {
    Leg { chain: ChainId(chain), kind, transactions }
}

fn bundle(legs: Vec<Leg>) -> Body {
    Body::Bundle(Bundle::new(legs, Guarantee::CoOrdered).unwrap())
}

fn limits() -> Body {
    let limits = RecordBody::Limits(Limits { tx_bytes: 1, block_bytes: 2, ..Limits::default() });
    Body::Record(Record::sign(NETWORK, CHAIN, limits, &key(8)))
}

fn new(body: Body) -> Result<Entry, InvalidEntry> {
    Entry::new(body, EXPIRES, None)
}

/// An entry's bytes from its four items.
fn bytes_of(gateway: &[u8], kind: u8, body: &dyn Encodable) -> Bytes {
    let mut bytes = Vec::new();
    encode_list(&[&EXPIRES, &Bytes::copy_from_slice(gateway), &kind, body], &mut bytes);
    bytes.into()
}

fn refused(raw: impl Into<Bytes>) -> InvalidEntry {
    Entry::decode(raw.into()).unwrap_err()
}

#[test]
fn each_kind_survives_its_encoding() {
    let legs = vec![
        leg(901, ChainKind::Evm, vec![evm(CHAIN, 0, 21_000), evm(CHAIN, 1, 30_000)]),
        leg(902, ChainKind::Opaque, vec![Bytes::from_static(b"x")]),
    ];
    let bodies =
        [transaction(CHAIN, ChainKind::Evm, evm(CHAIN, 0, 21_000)), bundle(legs), limits()];
    for (body, signed) in bodies.into_iter().zip([1, 3, 0]) {
        let entry = new(body.clone()).unwrap();
        assert_eq!(Entry::decode(entry.raw().clone()), Ok(entry.clone()));
        assert_eq!((entry.body(), entry.expires()), (&body, EXPIRES));
        let is_record = matches!(body, Body::Record(_));
        let admitted = entry.admitted_by(NETWORK, &key(7)).unwrap();
        for (entry, gateway) in [(entry, None), (admitted, Some(key(7).address()))] {
            let checked = entry.clone().check(NETWORK).unwrap();
            assert_eq!(checked.entry(), &entry);
            assert_eq!(checked.transactions().len(), signed);
            assert_eq!(checked.gateway(), gateway);
            assert_eq!(checked.record_signer(), is_record.then(|| key(8).address()));
        }
    }
}

#[test]
fn the_id_is_of_kind_and_body_alone() {
    let entry = new(opaque(9)).unwrap();
    let later = Entry::new(opaque(9), EXPIRES.plus(1), None).unwrap();
    let admitted = entry.admitted_by(NETWORK, &key(7)).unwrap();
    assert_eq!((later.id(), admitted.id()), (entry.id(), entry.id()));
    assert_ne!(admitted.raw(), entry.raw());
    assert_ne!(new(opaque(8)).unwrap().id(), entry.id());
    // Kind 1, then the list of chain, kind of chain, nine bytes; written out.
    let mut bytes = b"lockstep/entr/v1\x01\xce\x82\x03\x85\x02\x89".to_vec();
    bytes.extend([1; 9]);
    assert_eq!(entry.id().0, alloy_primitives::keccak256(bytes));
}

#[test]
fn a_gateways_signature_is_for_one_network_and_one_entry() {
    let entry = new(opaque(9)).unwrap().admitted_by(NETWORK, &key(7)).unwrap();
    let elsewhere = entry.clone().check(NetworkId::ZERO).unwrap();
    assert_ne!(elsewhere.gateway(), Some(key(7).address()));
    let moved = Entry::new(opaque(8), EXPIRES, entry.gateway).unwrap().check(NETWORK).unwrap();
    assert_ne!(moved.gateway(), Some(key(7).address()));
}

/// Knows one transaction, and one signature.
struct One(CheckedTransaction, (B256, Signature, Address));

impl Known for One {
    fn transaction(&self, chain: ChainId, hash: B256) -> Option<CheckedTransaction> {
        ((self.0.chain, self.0.hash) == (chain, hash)).then(|| self.0.clone())
    }

    fn signer(&self, digest: B256, signature: &Signature) -> Option<Address> {
        let (of, by, signer) = &self.1;
        ((of, by) == (&digest, signature)).then_some(*signer)
    }
}

#[test]
fn what_is_known_is_not_checked_again_in_whatever_entry_it_comes() {
    // A transaction that is not signed, and a gateway that did not sign.
    let mut unsigned = evm(CHAIN, 0, 21_000).to_vec();
    *unsigned.last_mut().unwrap() ^= 1;
    let (unsigned, sender) = (Bytes::from(unsigned), Address::repeat_byte(5));
    let hash = keccak256(&unsigned);
    let of = CheckedTransaction { chain: CHAIN, hash, gas: 7, bytes: 9, sender: Some(sender) };
    let body = transaction(CHAIN, ChainKind::Evm, unsigned.clone());
    let loose = Entry::new(body, EXPIRES, Some(Signature([0xff; 65]))).unwrap();
    let digest = Entry::gateway_digest(NETWORK, loose.id());
    let known = One(of.clone(), (digest, Signature([0xff; 65]), key(7).address()));
    let checked = loose.clone().check_knowing(NETWORK, &known).unwrap();
    assert_eq!(checked.transactions(), std::slice::from_ref(&of));
    assert_eq!(checked.gateway(), Some(key(7).address()));
    // Of another expiry; and in a bundle, whose gateway is another matter.
    let later = Entry::new(loose.body.clone(), EXPIRES.plus(1), loose.gateway).unwrap();
    assert!(later.check_knowing(NETWORK, &known).is_ok());
    let legs = vec![
        leg(CHAIN.0, ChainKind::Evm, vec![unsigned.clone()]),
        leg(1, ChainKind::Opaque, vec![Bytes::from_static(&[1])]),
    ];
    let bundle = new(Body::Bundle(Bundle::new(legs, Guarantee::CoOrdered).unwrap())).unwrap();
    assert_eq!(bundle.clone().check_knowing(NETWORK, &known).unwrap().transactions()[0], of);
    let signed = Entry::new(bundle.body, EXPIRES, loose.gateway).unwrap();
    let answer = signed.check_knowing(NETWORK, &known);
    assert!(matches!(answer, Err(InvalidEntry::Gateway(_))), "{answer:?}");
    // The same bytes as opaque ones have no signer, and another chain is another transaction.
    let opaque = new(transaction(CHAIN, ChainKind::Opaque, unsigned.clone())).unwrap();
    assert_eq!(opaque.check_knowing(NETWORK, &known).unwrap().transactions()[0].sender, None);
    let elsewhere = new(transaction(ChainId(902), ChainKind::Evm, unsigned)).unwrap();
    assert!(elsewhere.check_knowing(NETWORK, &known).is_err());
}

#[test]
fn sizes_hold_at_the_limit() {
    assert!(new(opaque(TRANSACTION_BYTES_MAX)).is_ok());
    let legs = |last: usize| {
        let most = Bytes::from(vec![1; TRANSACTION_BYTES_MAX]);
        let last = Bytes::from(vec![2; last]);
        vec![
            leg(1, ChainKind::Opaque, vec![most.clone(), last]),
            leg(2, ChainKind::Opaque, vec![most]),
        ]
    };
    let frame = new(bundle(legs(1_000))).unwrap().raw().len() - 1_000;
    let last = ENTRY_BYTES_MAX - frame;
    assert_eq!(new(bundle(legs(last))).unwrap().raw().len(), ENTRY_BYTES_MAX);
    let count = ENTRY_BYTES_MAX + 1;
    assert_eq!(new(bundle(legs(last + 1))), Err(InvalidEntry::TooLarge { count }));
    assert_eq!(refused(vec![0xff; count]), InvalidEntry::TooLarge { count });

    let prepared = |count: usize, number| {
        let one = Preparation { bundle: EntryId::ZERO, is_ok: true };
        let preparations = vec![one; count];
        let (parent, attributes) = (B256::ZERO, B256::ZERO);
        let body = RecordBody::Prepared(Prepared { number, parent, attributes, preparations });
        Record::sign(NETWORK, CHAIN, body, &key(8))
    };
    // 35 bytes each; the number fills what is left.
    let small = prepared(900, 1).length() - 900 * 35;
    let count = (RECORD_BYTES_MAX - small) / 35;
    let most = prepared(count, 1);
    assert!(RECORD_BYTES_MAX - most.length() < 35);
    assert!(new(Body::Record(most)).is_ok());
    let over = prepared(count + 1, 1);
    let expected = InvalidEntry::RecordTooLarge { count: over.length() };
    assert_eq!(new(Body::Record(over)), Err(expected));
}

#[test]
fn one_entry_has_one_encoding() {
    let raw = new(opaque(9)).unwrap().raw().clone();
    assert!(matches!(refused([&raw[..], &[0]].concat()), InvalidEntry::Encoding(_)));
    for length in 0..raw.len() {
        assert!(matches!(refused(raw.slice(..length)), InvalidEntry::Encoding(_)), "{length}");
    }
    assert!(matches!(refused(vec![0x80]), InvalidEntry::Encoding(_)));
    let five: [&dyn Encodable; 5] = [&EXPIRES, &Bytes::new(), &2u8, &Bytes::new(), &1u8];
    let mut bytes = Vec::new();
    encode_list(&five, &mut bytes);
    assert!(matches!(refused(bytes), InvalidEntry::Encoding(_)));
    let body =
        Transaction { chain: CHAIN, kind: ChainKind::Opaque, bytes: Bytes::from_static(b"x") };
    let expected = InvalidEntry::Encoding(Error::Custom("gateway is neither empty nor 65 bytes"));
    for length in [1, 64, 66] {
        assert_eq!(refused(bytes_of(&vec![1; length], 1, &body)), expected);
    }
    assert!(Entry::decode(bytes_of(&[1; 65], 1, &body)).is_ok());
}

#[test]
fn each_wrong_shape_is_refused_by_name() {
    let x = Bytes::from_static(b"x");
    let body = Transaction { chain: CHAIN, kind: ChainKind::Opaque, bytes: x.clone() };
    assert!(Entry::decode(bytes_of(&[], 1, &body)).is_ok());
    for got in [0, 4, 5, 255] {
        assert_eq!(refused(bytes_of(&[], got, &body)), InvalidEntry::Kind { got });
    }
    for kind in [2, 3] {
        assert!(matches!(refused(bytes_of(&[], kind, &body)), InvalidEntry::Encoding(_)));
    }
    let network = Transaction { chain: ChainId::NETWORK, ..body.clone() };
    assert_eq!(refused(bytes_of(&[], 1, &network)), InvalidEntry::NetworkChain);
    let empty = Transaction { bytes: Bytes::new(), ..body };
    let error = InvalidTransaction::Empty;
    let expected = InvalidEntry::Transaction { chain: CHAIN, error };
    assert_eq!(refused(bytes_of(&[], 1, &empty)), expected);
    let error = InvalidTransaction::TooLarge { count: TRANSACTION_BYTES_MAX + 1 };
    let expected = InvalidEntry::Transaction { chain: CHAIN, error };
    assert_eq!(new(opaque(TRANSACTION_BYTES_MAX + 1)), Err(expected));

    let mut one_leg = Vec::new();
    let legs = vec![leg(1, ChainKind::Opaque, vec![x])];
    encode_list(&[&Guarantee::CoOrdered, &legs], &mut one_leg);
    let raw = bytes_of(&[], 2, &alloy_rlp_raw(&one_leg));
    assert_eq!(refused(raw), InvalidEntry::Bundle(InvalidBundle::LegCount { count: 1 }));
}

#[test]
fn long_lists_stop_at_the_first_too_many() {
    let body = |legs: usize, transactions: usize| {
        let distinct =
            (0..transactions).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
        let mut list: Vec<Leg> = (1..=legs as u64)
            .map(|n| leg(n, ChainKind::Opaque, vec![Bytes::from_static(b"x")]))
            .collect();
        list[0].transactions = distinct;
        let mut bytes = Vec::new();
        encode_list(&[&Guarantee::CoOrdered, &list], &mut bytes);
        Entry::decode(bytes_of(&[], 2, &alloy_rlp_raw(&bytes))).map(|_| ())
    };
    assert_eq!(body(16, 16), Ok(()));
    assert_eq!(body(17, 1), Err(InvalidEntry::Bundle(InvalidBundle::LegCount { count: 17 })));
    let long = InvalidBundle::LegTooLong { chain: ChainId(1), count: 17 };
    assert_eq!(body(2, 17), Err(InvalidEntry::Bundle(long)));
    let expected = Err(InvalidEntry::Encoding(Error::Custom("list is too long")));
    assert_eq!(body(18, 1), expected);
    assert_eq!(body(2, 18), expected);
}

/// Bytes that are RLP already.
fn alloy_rlp_raw(bytes: &[u8]) -> impl Encodable {
    struct Raw(Vec<u8>);
    impl Encodable for Raw {
        fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
            out.put_slice(&self.0);
        }
        fn length(&self) -> usize {
            self.0.len()
        }
    }
    Raw(bytes.to_vec())
}

#[test]
fn each_wrong_signature_is_refused_by_name() {
    let check = |body: Body, gateway| Entry::new(body, EXPIRES, gateway).unwrap().check(NETWORK);
    let none = Signature([0; 65]);
    let error = InvalidSignature::RecoveryId { v: 0 };
    assert_eq!(check(opaque(1), Some(none)), Err(InvalidEntry::Gateway(error)));
    let Body::Record(record) = limits() else { unreachable!("it is one") };
    let unsigned = Record { signature: none, ..record };
    assert_eq!(check(Body::Record(unsigned), None), Err(InvalidEntry::Record(error)));

    let deposit = transaction(CHAIN, ChainKind::Evm, vec![0x7e, 0xc0]);
    let error = InvalidTransaction::Type { got: 0x7e };
    let refused = InvalidEntry::Transaction { chain: CHAIN, error: error.clone() };
    assert_eq!(check(deposit, None), Err(refused));
    // The last transaction of the last leg.
    let good = leg(901, ChainKind::Evm, vec![evm(CHAIN, 0, 21_000)]);
    let bad = leg(902, ChainKind::Evm, vec![evm(ChainId(902), 0, 21_000), vec![0x7e, 0xc0].into()]);
    let expected = InvalidEntry::Transaction { chain: ChainId(902), error };
    assert_eq!(check(bundle(vec![good, bad]), None), Err(expected));
}
