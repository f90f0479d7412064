//! Lateness and loss made on purpose, so that scenarios can be run with real processes.
//!
//! They apply to what a node receives, in the order of the stream; a node without faults pays nothing for them.

use std::time::Duration;

use libp2p::PeerId;

use super::class::Class;

/// Frames that one stream may hold back. More make the sender wait.
pub(super) const DELAYED_FRAMES_MAX: usize = 4_096;

/// Hands over frames later than they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundDelay {
    /// Of this class.
    pub class: Class,
    /// From this peer; `None`: from all.
    pub from: Option<PeerId>,
    /// So much later.
    pub delay: Duration,
}

/// Throws frames away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundLoss {
    /// Of this class.
    pub class: Class,
    /// From this peer; `None`: from all.
    pub from: Option<PeerId>,
}

/// What goes wrong on purpose. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first that fits a stream counts.
    pub delays: Vec<InboundDelay>,
    /// Loss goes before lateness.
    pub losses: Vec<InboundLoss>,
}

/// What happens to the frames of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are handed over at once.
    Passed,
    /// They are handed over so much later.
    Delayed(Duration),
    /// They are thrown away.
    Lost,
}

impl Faults {
    /// What happens to frames of `class` from `peer`.
    pub(super) fn fate(&self, class: Class, peer: PeerId) -> Fate {
        let fits = |of: Class, from: Option<PeerId>| of == class && from.is_none_or(|p| p == peer);
        if self.losses.iter().any(|loss| fits(loss.class, loss.from)) {
            return Fate::Lost;
        }
        self.delays
            .iter()
            .find(|delay| fits(delay.class, delay.from))
            .map_or(Fate::Passed, |delay| Fate::Delayed(delay.delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_applies_to_its_class_and_peer_only() {
        let peer = |seed| crate::mesh::keypair_from_seed([seed; 32]).public().to_peer_id();
        let delay = Duration::from_millis(7);
        let faults = Faults {
            delays: vec![InboundDelay { class: Class::Lanes, from: Some(peer(1)), delay }],
            losses: vec![InboundLoss { class: Class::Parts, from: None }],
        };
        assert_eq!(faults.fate(Class::Lanes, peer(1)), Fate::Delayed(delay));
        assert_eq!(faults.fate(Class::Lanes, peer(2)), Fate::Passed);
        assert_eq!(faults.fate(Class::Votes, peer(1)), Fate::Passed);
        assert_eq!(faults.fate(Class::Parts, peer(2)), Fate::Lost);
        assert_eq!(Faults::default().fate(Class::Parts, peer(2)), Fate::Passed);
    }
}
