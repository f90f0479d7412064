//! Makes every refusal a typed one, those of the gRPC library too, and bounds how long a call may take, and how many of
//! one connection are being answered.
//!
//! The library refuses oversize messages, unknown methods and broken frames by itself, before a handler is asked, with
//! a code and a text. It ends a call at its client's deadline with a code that is not the deadline's. This layer adds our
//! details to such an answer, and comes before it at a deadline. An internal error without details is the
//! library's word for a request it cannot read, so it becomes `INVALID_ARGUMENT`: our own internal errors have details.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame, SizeHint};
use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::transport::server::TlsConnectInfo;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::accept::{Active, ConnectionInfo};
use crate::limits::{CALLS_PER_CONNECTION_MAX, RETRY_AFTER_MS};
use crate::quota::Client;

/// The layer. See the module's docs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypedRefusals {
    /// How long a call may take to its first answer.
    pub(crate) timeout: Duration,
}

/// A service whose every refusal is typed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Typed<S>(S, Duration);

impl<S> Layer<S> for TypedRefusals {
    type Service = Typed<S>;

    fn layer(&self, inner: S) -> Typed<S> {
        Typed(inner, self.timeout)
    }
}

impl<S, B> Service<Request<B>> for Typed<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (place, active) = match place(&mut request) {
            Ok(place) => place.unzip(),
            Err(refusal) => {
                let refused = Status::from(refusal).into_http();
                return Box::pin(async move { Ok(refused) });
            }
        };
        let Self(inner, timeout) = self;
        let timeout = deadline(request.headers()).map_or(*timeout, |own| own.min(*timeout));
        let is_compressed = is_compressed(request.headers());
        let answer = tokio::time::timeout(timeout, inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            let answer = match answer {
                Ok(answer) => typed(answer?, is_compressed),
                Err(_) => timed_out(timeout),
            };
            Ok(answer.map(|body| Body::new(Answer { body, _active: active })))
        })
    }
}

/// The body of an answer; while it lives, its connection is not idle.
struct Answer {
    body: Body,
    _active: Option<Active>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A place among the calls of the request's connection, given back when it is dropped; `None` without a connection.
fn place<B>(request: &mut Request<B>) -> Result<Option<(OwnedSemaphorePermit, Active)>, Refusal> {
    let Some(connection) = request.extensions().get::<ConnectionInfo>().cloned() else {
        return Ok(None);
    };
    let ConnectionInfo { tcp, calls, activity } = connection;
    let certificates = request.extensions().get::<TlsConnectInfo<ConnectionInfo>>();
    let certificates = certificates.and_then(TlsConnectInfo::peer_certs);
    let client = match certificates.as_ref().and_then(|certificates| certificates.first()) {
        Some(certificate) => Client::known(certificate),
        None => Client::of(tcp.remote_addr().map(|address| address.ip())),
    };
    request.extensions_mut().insert(client);
    // The library looks for a client's address under this type.
    request.extensions_mut().insert(tcp);
    let place = calls.try_acquire_owned().map_err(|_| {
        let reason =
            format!("{CALLS_PER_CONNECTION_MAX} calls of this connection are being answered");
        Refusal::new(ErrorCode::Overloaded, reason).retry_after(RETRY_AFTER_MS)
    })?;
    Ok(Some((place, activity.begin())))
}

/// Whose call it is.
pub(crate) fn client_of<T>(request: &tonic::Request<T>) -> Client {
    request.extensions().get().copied().unwrap_or(Client::Others)
}

fn timed_out(timeout: Duration) -> Response<Body> {
    let reason = format!("no answer within {} ms", timeout.as_millis());
    Status::from(Refusal::new(ErrorCode::Timeout, reason)).into_http()
}

/// How long the client waits for the answer, as gRPC writes it (PROTOCOL-HTTP2.md, "Timeout"): at most eight digits and a
/// unit. `None` if it does not say, or not so.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether the request's messages may be compressed, which no service here reads.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity")
}

fn typed(mut response: Response<Body>, is_compressed: bool) -> Response<Body> {
    if let Some(status) = status_without_details(response.headers()) {
        // The library has no words for an unknown method.
        let is_about_compression =
            is_compressed && status.code() == Code::Unimplemented && !status.message().is_empty();
        let status = match is_about_compression {
            true => Refusal::new(ErrorCode::Compressed, status.message()).into(),
            false => with_details(&status),
        };
        // Cannot fail: texts are encoded, and there is no metadata.
        if status.add_header(response.headers_mut()).is_err() {
            return status.into_http();
        }
    }
    response
}

fn status_without_details(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
        .filter(|status| status.code() != Code::Ok && status.details().is_empty())
}

/// The same refusal, typed.
pub(crate) fn with_details(status: &Status) -> Status {
    if !status.details().is_empty() {
        return Status::with_details(
            status.code(),
            status.message(),
            status.details().to_vec().into(),
        );
    }
    if status.code() == Code::Internal {
        return Refusal::new(ErrorCode::Malformed, status.message()).into();
    }
    let refusal = Refusal::from_status(status);
    let message = status.message().to_owned();
    Status::with_details(status.code(), message, Status::from(refusal).details().to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal_of(response: &Response<Body>) -> (Code, Refusal) {
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert!(!status.details().is_empty());
        (status.code(), Refusal::from_status(&status))
    }

    #[test]
    fn the_librarys_refusals_get_details() {
        let cases = [
            (Status::out_of_range("too large"), Code::OutOfRange, ErrorCode::MessageTooLarge),
            (Status::unimplemented(""), Code::Unimplemented, ErrorCode::UnknownMethod),
            (Status::internal("broken frame"), Code::InvalidArgument, ErrorCode::Malformed),
        ];
        for (status, code, ours) in cases {
            let (got, refusal) = refusal_of(&typed(status.into_http(), false));
            assert_eq!((got, refusal.code), (code, ours));
            assert!(!refusal.action.is_empty());
        }
    }

    #[test]
    fn our_own_refusals_stay_as_they_are() {
        let refusal = Refusal::new(ErrorCode::Internal, "the store").of_field("x").retry_after(5);
        let response = typed(Status::from(refusal.clone()).into_http(), true);
        assert_eq!(refusal_of(&response), (Code::Internal, refusal));
    }

    #[test]
    fn an_answer_is_not_touched() {
        let response = Response::new(Body::default());
        assert!(typed(response, false).headers().is_empty());
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_at_our_deadline_or_the_clients() {
        let pending = tower::service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
        });
        for (own, clients, expected) in [(20, None, "20 ms"), (10_000, Some("30m"), "30 ms")] {
            let layer = TypedRefusals { timeout: Duration::from_millis(own) };
            let mut request = Request::new(());
            if let Some(clients) = clients {
                request.headers_mut().insert("grpc-timeout", clients.parse().unwrap());
            }
            let response = layer.layer(pending).call(request).await.unwrap();
            let (code, refusal) = refusal_of(&response);
            assert_eq!((code, refusal.code), (Code::DeadlineExceeded, ErrorCode::Timeout));
            assert!(refusal.reason.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn a_deadline_is_read_as_grpc_writes_it() {
        let cases = [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("999999999S", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1x", None),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(deadline(&headers), expected, "{text:?}");
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }
}
