//! From a time to a height, shown; and what a node that lies about it is told.

use lockstep_core::types::{Height, UnixMillis};
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};

use crate::network::{A, Lies, NONE, Node, fill, light_client};

fn time_of(node: &Node, height: u64) -> UnixMillis {
    node.log.certified(Height(height)).header.timestamp_ms
}

/// What a liar does to a height.
type Lie = fn(&mut u64);

async fn lied_to(node: &Node, height_at: Lie) -> VerifyingLog {
    let lies = Lies { height_at, ..Lies::NONE };
    VerifyingLog::new(node.liar(lies).await, light_client(&node.log))
}

#[tokio::test]
async fn every_time_leads_to_the_first_height_after_it() {
    for heights in 1..=9 {
        let node = Node::start().await;
        fill(&node.log, heights);
        let mut log = VerifyingLog::new(node.log_client().await, light_client(&node.log));
        assert_eq!(log.height_after(A, UnixMillis(0)).await, Ok(Height(1)));
        for height in 1..=heights {
            let at = time_of(&node, height);
            let before = UnixMillis(at.0 - 1);
            assert_eq!(log.height_after(A, before).await, Ok(Height(height)));
            // Any chain does, also one that has nothing.
            let after = log.height_after(NONE, at).await;
            match height < heights {
                true => assert_eq!(after, Ok(Height(height + 1))),
                false => {
                    let VerifyError::Client(error) = after.unwrap_err() else { panic!("no lie") };
                    assert!(error.is_not_found(), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_node_without_blocks_does_not_know() {
    let node = Node::start().await;
    let error = node.log_client().await.height_after(UnixMillis(0)).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn a_node_that_joined_late_does_not_guess() {
    let node = Node::start().await;
    fill(&node.log, 9);
    let (first, second) = (time_of(&node, 5), time_of(&node, 6));
    node.log.forget_below(5);
    let mut log = node.log_client().await;
    let error = log.height_after(UnixMillis(first.0 - 1)).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert!(error.is_not_found() && refusal.reason.contains("before height 5"), "{error}");
    assert_eq!(log.height_after(first).await, Ok(Height(6)));
    assert_eq!(log.height_after(UnixMillis(second.0 - 1)).await, Ok(Height(6)));
    assert_eq!(log.height_after(second).await, Ok(Height(7)));
}

#[tokio::test]
async fn another_height_is_a_lie() {
    let node = Node::start().await;
    fill(&node.log, 9);
    let timestamp = time_of(&node, 4);
    let not_first = |height: u64, at: u64| VerifyError::NotFirstAfter {
        timestamp,
        height: Height(height),
        at: Height(at),
        got: time_of(&node, at),
    };
    let cases: [(Lie, VerifyError); 3] = [
        (|height| *height += 1, not_first(6, 5)),
        (|height| *height -= 1, not_first(4, 4)),
        (|height| *height = 1, not_first(1, 1)),
    ];
    for (lie, expected) in cases {
        let mut log = lied_to(&node, lie).await;
        assert_eq!(log.height_after(A, timestamp).await, Err(expected));
    }
    let mut log = lied_to(&node, |height| *height = 10).await;
    let expected = VerifyError::Height { expected: Height(10), got: Height(9) };
    assert_eq!(log.height_after(A, timestamp).await, Err(expected));
    let mut log = lied_to(&node, |height| *height = 0).await;
    let error = log.height_after(A, timestamp).await.unwrap_err();
    assert!(matches!(error, VerifyError::Client(ClientError::Answer(_))), "{error}");
    let mut log = lied_to(&node, |height| *height = u64::MAX).await;
    assert!(log.height_after(A, timestamp).await.is_err());
}
