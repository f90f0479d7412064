//! What a validator's `/healthz` says, fetched with the few lines of HTTP that takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// In one word: starting, catching up, serving, stalled, stopped.
    pub state: String,
    /// Why, for people; empty while all is well.
    #[serde(default)]
    pub reason: String,
    /// Newest decided height.
    #[serde(default)]
    pub height: u64,
}

/// Asks the node whose health listener has this port; `None` if it does not answer.
pub async fn ask(port: u16) -> Option<Health> {
    let answer = timeout(PATIENCE, get(port, "/healthz")).await.ok()?.ok()?;
    parse(&answer)
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn parse(answer: &str) -> Option<Health> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 ").then_some(())?;
    serde_json::from_str(body.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_read_whatever_its_status() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\r\n\
            {\"state\":\"stalled\",\"reason\":\"no quorum\",\"height\":7}";
        let expected =
            Health { state: "stalled".to_owned(), reason: "no quorum".to_owned(), height: 7 };
        assert_eq!(parse(answer), Some(expected));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for answer in
            ["", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nfine", "SSH-2.0\r\n\r\n{}"]
        {
            assert_eq!(parse(answer), None, "{answer}");
        }
    }
}
