//! What happened, as a hash, and as text where somebody reads it.

use std::fmt::Debug;

use lockstep_engine::replica::frames::read_votes;

use crate::node::peer;
use crate::world::{Class, Event, Micros};

/// The trace of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    /// Print it.
    is_loud: bool,
}

impl Trace {
    /// An empty trace; a loud one prints every line.
    #[must_use]
    pub(crate) const fn new(is_loud: bool) -> Self {
        Self { hash: 0, is_loud }
    }

    /// Hash over everything so far.
    #[must_use]
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, bits: u64) {
        self.hash = (self.hash.rotate_left(5) ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// An event.
    pub(crate) fn event(&mut self, now: Micros, node: usize, event: &Event) {
        self.mix(now ^ ((node as u64) << 56));
        if let Event::Frame { from, class, frame, .. } = event {
            self.mix((*from as u64) << 8 | *class as u64);
            self.mix(frame.len() as u64);
            let tail = frame.last_chunk::<8>().map_or(0, |tail| u64::from_le_bytes(*tail));
            self.mix(tail);
        }
        if self.is_loud {
            self.event_line(now, node, event);
        }
    }

    /// What a frame of votes says is of more use than its bytes.
    fn event_line(&self, now: Micros, node: usize, event: &Event) {
        match event {
            Event::Frame { from, class: Class::Votes, frame, .. } => {
                match read_votes(peer(*from), frame.clone()) {
                    Ok(votes) => self.line(now, node, &(*from, votes)),
                    Err(error) => self.line(now, node, &(*from, error)),
                }
            }
            event => self.line(now, node, event),
        }
    }

    /// Something to remember.
    pub(crate) fn note(&mut self, now: Micros, node: usize, what: &dyn Debug) {
        self.mix(now.rotate_left(32) ^ node as u64);
        if self.is_loud {
            self.line(now, node, what);
        }
    }

    fn line(&self, now: Micros, node: usize, what: &dyn Debug) {
        let mut text = format!("{what:?}");
        text.truncate(text.char_indices().nth(400).map_or(text.len(), |(at, _)| at));
        println!("{:>9.3} ms  node {node}  {text}", now as f64 / 1_000.0);
    }
}
