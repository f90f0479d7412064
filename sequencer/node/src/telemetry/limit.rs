//! A bound on log lines: what a peer or a client makes a node say must not fill its disk.
//!
//! Each place in the code that logs has so many lines in a time; what is beyond is counted and told in one line. Debugging
//! has no bound: who asks for it wants all.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one place within [`TIME`].
const LINES_MAX: u64 = 100;
/// How long lines are counted together.
const TIME: Duration = Duration::from_secs(10);

/// Counts lines; clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Limit {
    // A lock, because every thread logs; held to count one line.
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
}

#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    lines: u64,
}

impl Limit {
    fn places(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more line of this place may be written.
    fn count(&self, metadata: &'static Metadata<'static>) -> bool {
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut places = self.places();
        let place = places.entry(metadata.callsite()).or_insert(Place { metadata, lines: 0 });
        place.lines = place.lines.saturating_add(1);
        place.lines <= LINES_MAX
    }

    /// The places that had too many lines, and how many were left out; counts begin anew.
    fn take(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let places = self.places().drain().collect::<Vec<_>>();
        let over = |(_, place): &(_, Place)| place.lines > LINES_MAX;
        let over = places.into_iter().filter(over);
        over.map(|(_, place)| (place.metadata, place.lines.saturating_sub(LINES_MAX))).collect()
    }

    /// Tells what was left out, from a thread of its own, for the rest of the process.
    pub(super) fn tell(self) -> io::Result<()> {
        let tell = move || {
            loop {
                thread::sleep(TIME);
                for (place, lines) in self.take() {
                    let (file, line) = (place.file().unwrap_or_default(), place.line());
                    warn!(lines, file, line, "left out log lines");
                }
            }
        };
        thread::Builder::new().name("log-limit".to_owned()).spawn(tell).map(drop)
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.count(event.metadata())
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Seen(Arc<Mutex<u64>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn each_place_has_so_many_lines_and_debugging_all() {
        let (limit, seen) = (Limit::default(), Seen::default());
        let subscriber = tracing_subscriber::registry().with(seen.clone()).with(limit.clone());
        tracing::subscriber::with_default(subscriber, || {
            let seen = || std::mem::take(&mut *seen.0.lock().unwrap());
            (0..LINES_MAX + 7).for_each(|n| warn!(n, "one place"));
            assert_eq!(seen(), LINES_MAX);
            info!("another place");
            (0..LINES_MAX + 7).for_each(|n| debug!(n, "asked for"));
            assert_eq!(seen(), 1 + LINES_MAX + 7);
            let left_out: Vec<_> = limit.take().into_iter().map(|(_, lines)| lines).collect();
            assert_eq!(left_out, [7]);
            assert_eq!(limit.take(), [], "counts begin anew");
        });
    }
}
