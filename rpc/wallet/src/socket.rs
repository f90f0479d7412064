//! The port over WebSocket: each client has a connection of its own to the engine, so subscriptions just pass.
//!
//! Ids are the client's own on both connections, and nothing is rewritten. A batch in which the gateway answers a call
//! goes to the engine over HTTP instead; `eth_subscribe` in such a batch is refused by the engine.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use lockstep_rpc::quota::Client;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message as EngineMessage;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tracing::debug;

use crate::limits::{
    ANSWER_BYTES_MAX, BODY_BYTES_MAX, ENGINE_CONNECT_TIMEOUT, IDLE_TIMEOUT, SOCKET_CALLS_MAX,
    SOCKET_PING_INTERVAL, SOCKET_WRITE_TIMEOUT,
};
use crate::server::Port;

type EngineSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What happens on a connection.
enum Event {
    Client(Bytes),
    /// The client shows that it lives.
    Alive,
    Engine(Message),
    /// The engine shows that it lives, which nobody asked.
    Idle,
    Answer(String),
    Ping,
    /// Either end is gone, or the gateway stops.
    End,
}

struct Session {
    port: Port,
    client: Client,
    to_client: SplitSink<WebSocket, Message>,
    from_client: SplitStream<WebSocket>,
    to_engine: SplitSink<EngineSocket, EngineMessage>,
    from_engine: SplitStream<EngineSocket>,
    /// What is being answered here; at most [`SOCKET_CALLS_MAX`].
    calls: FuturesUnordered<BoxFuture<'static, String>>,
    /// When the client was heard last.
    heard: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Connects to the engine and then takes the client's connection over.
pub(crate) async fn upgrade(port: Port, client: Client, upgrade: WebSocketUpgrade) -> Response {
    let Some(url) = port.ws_url.clone() else {
        return (StatusCode::NOT_IMPLEMENTED, "no WebSocket here: use POST\n").into_response();
    };
    let Ok(permit) = Arc::clone(&port.sockets).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many WebSockets\n").into_response();
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(ANSWER_BYTES_MAX))
        .max_frame_size(Some(ANSWER_BYTES_MAX));
    let connecting = connect_async_with_config(url.as_ref(), Some(config), true);
    let engine = match timeout(ENGINE_CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((engine, _))) => engine,
        Ok(Err(error)) => return unavailable(&error.to_string()),
        Err(_) => return unavailable("it does not answer"),
    };
    upgrade.max_message_size(BODY_BYTES_MAX).max_frame_size(BODY_BYTES_MAX).on_upgrade(
        move |socket| async move {
            let (to_client, from_client) = socket.split();
            let (to_engine, from_engine) = engine.split();
            let (calls, heard) = (FuturesUnordered::new(), Instant::now());
            let session = Session {
                port,
                client,
                to_client,
                from_client,
                to_engine,
                from_engine,
                calls,
                heard,
                _permit: permit,
            };
            Box::pin(session.run()).await;
        },
    )
}

fn unavailable(reason: &str) -> Response {
    debug!(reason, "cannot connect to the engine's WebSocket");
    (StatusCode::BAD_GATEWAY, "execution engine unavailable\n").into_response()
}

impl Session {
    async fn run(mut self) {
        let mut pings = interval(SOCKET_PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_stopping = self.port.is_stopping.clone();
        loop {
            let has_room = self.calls.len() < SOCKET_CALLS_MAX;
            let event = tokio::select! {
                message = self.from_client.next(), if has_room => from_client(message),
                message = self.from_engine.next() => from_engine(message),
                Some(answer) = self.calls.next() => Event::Answer(answer),
                _ = pings.tick() => Event::Ping,
                _ = is_stopping.wait_for(|is_stopping| *is_stopping) => Event::End,
            };
            let is_sent = match event {
                Event::Client(text) => self.on_text(text).await,
                Event::Alive => {
                    self.heard = Instant::now();
                    true
                }
                Event::Engine(message) => self.tell_client(message).await,
                Event::Idle => true,
                // A batch of notifications has no answer.
                Event::Answer(answer) if answer.is_empty() => true,
                Event::Answer(answer) => self.tell_client(Message::Text(answer.into())).await,
                Event::Ping => {
                    let is_alive = self.heard.elapsed() < IDLE_TIMEOUT || !has_room;
                    is_alive && self.tell_client(Message::Ping(Bytes::new())).await
                }
                Event::End => false,
            };
            if !is_sent {
                break;
            }
        }
        self.close().await;
    }

    async fn on_text(&mut self, text: Bytes) -> bool {
        self.heard = Instant::now();
        let gate = Arc::clone(&self.port.gate);
        if !gate.passes(&text) {
            let (client, in_flight) = (self.client, Arc::clone(&self.port.in_flight));
            self.calls.push(Box::pin(async move {
                // The semaphore is never closed.
                let _permit = in_flight.acquire().await;
                gate.answer(client, &text).await
            }));
            return true;
        }
        // A call that parsed is UTF-8.
        let Ok(text) = String::from_utf8(text.into()) else { return false };
        in_time(SOCKET_WRITE_TIMEOUT, self.to_engine.send(EngineMessage::text(text))).await
    }

    async fn tell_client(&mut self, message: Message) -> bool {
        in_time(SOCKET_WRITE_TIMEOUT, self.to_client.send(message)).await
    }

    async fn close(&mut self) {
        // Each may be gone already; then there is nobody to tell.
        let _is_told = self.tell_client(Message::Close(None)).await;
        let _is_told = in_time(SOCKET_WRITE_TIMEOUT, self.to_engine.close()).await;
    }
}

/// Whether it was sent in time.
async fn in_time<E>(limit: Duration, sending: impl Future<Output = Result<(), E>>) -> bool {
    matches!(timeout(limit, sending).await, Ok(Ok(())))
}

fn from_client(message: Option<Result<Message, axum::Error>>) -> Event {
    match message {
        Some(Ok(Message::Text(text))) => Event::Client(text.into()),
        Some(Ok(Message::Binary(bytes))) => Event::Client(bytes),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Event::Alive,
        Some(Ok(Message::Close(_)) | Err(_)) | None => Event::End,
    }
}

fn from_engine(
    message: Option<Result<EngineMessage, tokio_tungstenite::tungstenite::Error>>,
) -> Event {
    match message {
        Some(Ok(EngineMessage::Text(text))) => Event::Engine(Message::Text(text.as_str().into())),
        Some(Ok(EngineMessage::Binary(bytes))) => Event::Engine(Message::Binary(bytes)),
        // The library answers pings by itself; an answer to none of ours needs nothing.
        Some(Ok(EngineMessage::Ping(_) | EngineMessage::Pong(_) | EngineMessage::Frame(_))) => {
            Event::Idle
        }
        Some(Ok(EngineMessage::Close(_)) | Err(_)) | None => Event::End,
    }
}
