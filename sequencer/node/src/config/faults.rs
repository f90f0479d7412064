//! Lateness and loss made on purpose, as the node's file has them. For tests of real processes; never for production.

use std::time::Duration;

use libp2p::PeerId;
use lockstep_consensus::mesh::class::Class;
use lockstep_consensus::mesh::faults::{Faults, InboundDelay, InboundLoss};
use serde::{Deserialize, Serialize};

/// Delays and losses of one file.
const FAULTS_MAX: usize = 256;
/// Longest delay, in milliseconds.
const DELAY_MS_MAX: u64 = 600_000;

/// What goes wrong on purpose with the frames that a validator receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultOptions {
    /// Frames that are handed over late, 0..=256 rules; the first that fits counts. Default: none.
    pub delays: Vec<DelayOptions>,
    /// Frames that are thrown away, 0..=256 rules. Loss goes before lateness. Default: none.
    pub losses: Vec<LossOptions>,
}

/// Frames that are handed over late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayOptions {
    /// Of this class.
    pub class: FrameClass,
    /// From the validator with this peer id. Default: from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// So many milliseconds late, 1..=600,000.
    pub delay_ms: u64,
}

/// Frames that are thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossOptions {
    /// Of this class.
    pub class: FrameClass,
    /// From the validator with this peer id. Default: from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The mesh's classes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameClass {
    /// Consensus messages.
    Votes,
    /// Parts of proposals.
    Parts,
    /// Batches and acknowledgements.
    Lanes,
    /// Value sync.
    Sync,
}

impl From<FrameClass> for Class {
    fn from(class: FrameClass) -> Self {
        match class {
            FrameClass::Votes => Self::Votes,
            FrameClass::Parts => Self::Parts,
            FrameClass::Lanes => Self::Lanes,
            FrameClass::Sync => Self::Sync,
        }
    }
}

fn peer(from: Option<&String>) -> Result<Option<PeerId>, String> {
    from.map(|id| id.parse().map_err(|_| format!("{id:?} is not a peer id"))).transpose()
}

impl FaultOptions {
    /// Whether nothing goes wrong on purpose.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.delays.is_empty() && self.losses.is_empty()
    }

    /// Checks counts, ranges and peer ids.
    ///
    /// # Errors
    /// The field at fault and the reason.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        self.to_mesh().map(|_| ())
    }

    /// The same for the mesh.
    ///
    /// # Errors
    /// The field at fault and the reason; none if the options were validated.
    pub fn to_mesh(&self) -> Result<Faults, (&'static str, String)> {
        let counts = [("faults.delays", self.delays.len()), ("faults.losses", self.losses.len())];
        for (field, count) in counts {
            if count > FAULTS_MAX {
                return Err((field, format!("{count} rules, at most {FAULTS_MAX} are allowed")));
            }
        }
        let delays = self.delays.iter().map(DelayOptions::to_mesh).collect::<Result<_, _>>()?;
        let loss = |loss: &LossOptions| {
            let from = peer(loss.from.as_ref()).map_err(|reason| ("faults.losses.from", reason))?;
            Ok(InboundLoss { class: loss.class.into(), from })
        };
        let losses = self.losses.iter().map(loss).collect::<Result<_, _>>()?;
        Ok(Faults { delays, losses })
    }
}

impl DelayOptions {
    fn to_mesh(&self) -> Result<InboundDelay, (&'static str, String)> {
        let from = peer(self.from.as_ref()).map_err(|reason| ("faults.delays.from", reason))?;
        let ms = self.delay_ms;
        if ms == 0 || ms > DELAY_MS_MAX {
            return Err(("faults.delays.delay_ms", format!("{ms}, expected 1..={DELAY_MS_MAX}")));
        }
        Ok(InboundDelay { class: self.class.into(), from, delay: Duration::from_millis(ms) })
    }
}
