//! Messages that are no messages, and messages that are too large: each refused with a typed error, the server lives.

use bytes::{Buf, BufMut, Bytes};
use lockstep_proto::v1;
use lockstep_rpc::limits::MESSAGE_IN_BYTES_MAX;
use lockstep_rpc::node::{ErrorCode, Refusal};
use prost::Message;
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::network::{A, Node, entry, fill};

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
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
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, bytes: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}

async fn call(channel: &Channel, method: &str, bytes: impl Into<Bytes>) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/lockstep.v1.{method}")).unwrap();
    client.unary(Request::new(bytes.into()), path, Raw).await.map(tonic::Response::into_inner)
}

fn typed(status: &Status) -> (Code, ErrorCode) {
    assert!(!status.details().is_empty(), "no details: {status}");
    let refusal = Refusal::from_status(status);
    assert!(!refusal.reason.is_empty() && !refusal.action.is_empty(), "{refusal:?}");
    (status.code(), refusal.code)
}

#[tokio::test]
async fn malformed_protobuf_is_refused_with_a_typed_error() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let malformed: [&[u8]; 5] = [
        &[0xff],
        &[0x0a, 0x7f, 0x01],
        &[0x0b],
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x0a, 0x02, 0xff, 0xff],
    ];
    for bytes in malformed {
        for method in ["Ingress/SubmitTransaction", "Ingress/SubmitBundle"] {
            let status = call(&channel, method, bytes.to_vec()).await.unwrap_err();
            let expected = (Code::InvalidArgument, ErrorCode::Malformed);
            assert_eq!(typed(&status), expected, "{method} {bytes:?}");
        }
    }
    fill(&node.log, 1);
    call(&channel, "Log/GetHead", Vec::new()).await.expect("the server lives");
}

#[tokio::test]
async fn a_message_of_countless_nothings_is_refused() {
    let node = Node::start().await;
    let nothings = [0x0a, 0x00].repeat(200_000);
    let status = call(&node.channel().await, "Ingress/SubmitBundle", nothings).await.unwrap_err();
    assert_eq!(typed(&status), (Code::InvalidArgument, ErrorCode::OutOfRange));
}

#[tokio::test]
async fn an_oversize_message_is_refused_before_it_is_read() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let request = |count| {
        let raw = vec![1; count].into();
        let transaction = v1::Transaction { chain_id: A.0, kind: 2, raw };
        let request =
            v1::SubmitTransactionRequest { transaction: Some(transaction), ..Default::default() };
        request.encode_to_vec()
    };
    let over = request(MESSAGE_IN_BYTES_MAX);
    let status = call(&channel, "Ingress/SubmitTransaction", over).await.unwrap_err();
    assert_eq!(typed(&status), (Code::OutOfRange, ErrorCode::MessageTooLarge));
    let within = request(MESSAGE_IN_BYTES_MAX - 64);
    let status = call(&channel, "Ingress/SubmitTransaction", within).await.unwrap_err();
    assert_eq!(typed(&status), (Code::InvalidArgument, ErrorCode::OutOfRange), "{status}");
    assert_eq!(Refusal::from_status(&status).field, "transaction.raw");
}

#[tokio::test]
async fn an_unknown_method_is_refused_with_a_typed_error() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let status = call(&channel, "Ingress/Nonsense", Vec::new()).await.unwrap_err();
    assert_eq!(typed(&status), (Code::Unimplemented, ErrorCode::UnknownMethod));
}

#[tokio::test]
async fn a_compressed_request_is_refused_with_a_typed_error() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let path = PathAndQuery::from_static("/lockstep.v1.Ingress/SubmitEntry");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    // The header alone decides; what follows is not read.
    let mut request = Request::new(Bytes::new());
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let status = client.unary(request, path, Raw).await.unwrap_err();
    assert_eq!(typed(&status), (Code::Unimplemented, ErrorCode::Compressed));
    assert!(status.message().contains("gzip"), "{status}");
    assert!(status.metadata().contains_key("grpc-accept-encoding"), "{status:?}");
}

/// Over bare HTTP/2, because a gRPC client keeps its deadline itself, and its own word might come before the node's.
#[tokio::test]
async fn a_clients_deadline_is_answered_with_a_typed_error() {
    let node = Node::start().await;
    let connection = TcpStream::connect(node.server.local_addr()).await.unwrap();
    let (client, connection) = h2::client::handshake(connection).await.unwrap();
    tokio::spawn(connection);
    let call = |n: u8| {
        let wait = v1::Wait { state: v1::State::Included.into(), timeout_ms: 5_000 };
        let raw = entry(A, &[n]).raw().0.clone();
        let message = v1::SubmitEntryRequest { entry: raw, wait: Some(wait) }.encode_to_vec();
        let head = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat();
        let request = http::Request::post(node.url() + "/lockstep.v1.Ingress/SubmitEntry")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "50m");
        let client = client.clone();
        async move {
            let mut client = client.ready().await.unwrap();
            let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data([head, message].concat().into(), true).unwrap();
            Status::from_header_map(answer.await.unwrap().headers()).expect("no message comes")
        }
    };
    for status in futures::future::join_all((0..40).map(call)).await {
        assert_eq!(typed(&status), (Code::DeadlineExceeded, ErrorCode::Timeout));
    }
}

#[tokio::test]
async fn garbage_in_a_stream_ends_it_with_a_typed_error_after_the_answers_before() {
    let node = Node::start().await;
    let body = v1::submission::Body::Entry(entry(A, b"x").raw().to_vec().into());
    let submission = v1::Submission { body: Some(body), ..v1::Submission::default() };
    let good = v1::SubmitStreamRequest { sequence: 1, submissions: vec![submission] };
    let messages = vec![Bytes::from(good.encode_to_vec()), Bytes::from_static(&[0xff; 9])];
    let mut client = tonic::client::Grpc::new(node.channel().await);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/lockstep.v1.Ingress/SubmitStream");
    let requests = Request::new(futures::stream::iter(messages));
    let mut answers = client.streaming(requests, path, Raw).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    let first = v1::SubmitStreamResponse::decode(first).unwrap();
    assert_eq!((first.sequence, first.results.len()), (1, 1));
    let status = answers.message().await.unwrap_err();
    assert_eq!(typed(&status), (Code::InvalidArgument, ErrorCode::Malformed));
    assert_eq!(node.ingress.pending(), [entry(A, b"x").id()]);
}
