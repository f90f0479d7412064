//! The ends of a stream without a network.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::io::Cursor;
use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::mesh::class::Class;
use crate::mesh::faults::Fate;
use crate::mesh::frame::{End, Reader, Writer};
use crate::mesh::peer::{Outbox, Peer, Pushed, Shared};
use crate::mesh::{Inbound, keypair_from_seed};

fn peer() -> Arc<Peer> {
    let id = keypair_from_seed([5; 32]).public().to_peer_id();
    let shared = Shared::new(PeerId::random(), [id].into_iter());
    Arc::clone(&shared.peers[&id])
}

/// What a reader of `class` makes of `bytes`: the frames, and the end.
async fn read(class: Class, fate: Fate, bytes: Vec<u8>) -> (Vec<Inbound>, End) {
    let (inbox, mut frames) = mpsc::channel(10_000);
    let reader = Reader { peer: peer(), class, fate, inbox };
    let end = reader.run(Cursor::new(bytes)).await;
    let mut received = Vec::new();
    while let Ok(frame) = frames.try_recv() {
        received.push(frame);
    }
    (received, end)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn is_cut_off(end: &End) -> bool {
    matches!(end, End::Stream(error) if error.kind() == io::ErrorKind::UnexpectedEof)
}

#[tokio::test]
async fn heartbeats_are_no_frames() {
    let bytes = [frame(b""), frame(b"a vote"), frame(b""), frame(b"another")].concat();
    let (frames, end) = read(Class::Votes, Fate::Passed, bytes).await;
    let bodies: Vec<_> = frames.iter().map(|frame| frame.body.to_vec()).collect();
    assert_eq!(bodies, [b"a vote".to_vec(), b"another".to_vec()]);
    assert!(is_cut_off(&end), "{end}");
}

#[tokio::test]
async fn length_above_the_greatest_is_garbage_and_the_greatest_is_not() {
    for class in Class::ALL {
        let max = class.frame_bytes_max();
        let (frames, end) = read(class, Fate::Passed, frame(&vec![1; max])).await;
        assert_eq!((frames.len(), is_cut_off(&end)), (1, true));
        for got in [max + 1, usize::try_from(u32::MAX).unwrap()] {
            let header = u32::try_from(got).unwrap().to_le_bytes().to_vec();
            let (frames, end) = read(class, Fate::Passed, header).await;
            assert_eq!(frames.len(), 0);
            assert!(
                matches!(end, End::TooLong { got: g, max: m } if (g, m) == (got, max)),
                "{end}"
            );
        }
    }
}

#[tokio::test]
async fn body_that_stops_half_way_is_no_frame() {
    let mut bytes = frame(&[7; 200_000]);
    bytes.truncate(150_000);
    let (frames, end) = read(Class::Sync, Fate::Passed, bytes).await;
    assert_eq!(frames.len(), 0);
    assert!(is_cut_off(&end), "{end}");
}

#[tokio::test]
async fn reader_over_its_quota_waits() {
    let per_second = usize::try_from(Class::Votes.limits().frames_per_second).unwrap();
    let begin = Instant::now();
    let bytes = frame(b"").repeat(per_second + per_second / 2);
    let (_, end) = read(Class::Votes, Fate::Passed, bytes).await;
    assert!(is_cut_off(&end), "{end}");
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn lost_frames_are_read_and_thrown_away() {
    let (frames, end) = read(Class::Votes, Fate::Lost, frame(b"a vote").repeat(5_000)).await;
    assert_eq!(frames.len(), 0);
    assert!(is_cut_off(&end), "{end}");
}

#[tokio::test]
async fn inbox_of_a_peer_is_bounded_and_taking_a_frame_makes_room() {
    let (inbox, mut frames) = mpsc::channel(10_000);
    let peer = peer();
    let reader = Reader { peer: Arc::clone(&peer), class: Class::Lanes, fate: Fate::Passed, inbox };
    let body = vec![1; Class::Lanes.frame_bytes_max()];
    let fitting = Class::Lanes.limits().inbox_bytes_max / (body.len() + 1_024);
    let read = tokio::spawn(reader.run(Cursor::new(frame(&body).repeat(fitting + 1))));
    let count = || peer.counters.snapshot(false).classes.lanes.received_frames;
    let count = || usize::try_from(count()).unwrap();
    super::until("the inbox is full", || count() == fitting).await;
    assert_eq!(frames.len(), fitting);
    assert!(!read.is_finished(), "one frame waits");
    drop(frames.recv().await);
    assert!(is_cut_off(&read.await.unwrap()));
    assert_eq!(count(), fitting + 1);
}

#[tokio::test]
async fn what_is_written_is_what_is_read() {
    let peer = peer();
    let (outbox, queue) = Outbox::new(Class::Parts);
    peer.set_outboxes(Some(crate::mesh::class::PerClass::from_fn(|_| outbox.clone())));
    let lengths = [1, 65_535, 65_536, 65_537, 100, 260_000, 3];
    for length in lengths {
        assert_eq!(peer.push(Class::Parts, vec![3; length].into()), Pushed::Queued);
    }
    peer.set_outboxes(None);
    drop(outbox);
    let mut written = Vec::new();
    let writer = Writer { peer, class: Class::Parts, queue };
    let end = writer.run(&mut written).await;
    assert!(matches!(end, End::QueueClosed), "{end}");
    let (frames, _) = read(Class::Parts, Fate::Passed, written).await;
    let read: Vec<_> = frames.iter().map(|frame| frame.body.len()).collect();
    assert_eq!(read, lengths);
}
