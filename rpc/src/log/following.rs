//! Streams that follow the log: history first, then each height as it is decided, none left out and none twice.
//!
//! There is one loop for both, so there is no seam between them: it reads height after height up to the head, and waits
//! for a higher head.

use lockstep_core::types::Height;
use lockstep_proto::error::{ErrorCode, Refusal};

use super::LogService;
use crate::quota::Client;
use crate::streams::Answers;

impl LogService {
    /// One message per height from `from` on, or from behind the head. A height is not read before its reader has room.
    pub(super) fn follow<T, F>(
        &self,
        client: Client,
        from: Option<Height>,
        read: impl Fn(Height) -> F + Send + 'static,
    ) -> Result<Answers<T>, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send,
    {
        let mut heads = self.reads.heads();
        let mut next = from.unwrap_or_else(|| heads.borrow().next());
        let place = self.streams.place(client)?;
        Ok(self.streams.open(place, move |sink| async move {
            loop {
                let head = *heads.borrow_and_update();
                while next <= head {
                    let room = sink.room().await?;
                    room.send(Ok(read(next).await?));
                    next = next.next();
                }
                if heads.changed().await.is_err() {
                    return Err(Refusal::new(ErrorCode::NotReady, "the node is shutting down"));
                }
            }
        }))
    }
}
