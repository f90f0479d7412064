//! The log service: reads blocks and slices, builds their proofs, streams them as they are decided.
//!
//! Nothing here needs to be trusted by a client: what it acts on carries header, certificate and path. Proofs are built
//! by `lockstep_core::proof` from what the node's [`Log`](crate::node::Log) gives. What the last heights have is read, and
//! made a message, once for all streams and calls.

use std::sync::Arc;

use lockstep_core::types::{Height, UnixMillis};
use lockstep_proto::convert::log::{
    BlockAt, HANDOVERS_PER_ANSWER_MAX, Handovers, ProvenTransaction, RecordHeightsQuery,
    SlicesQuery, block_stream_query, handovers_query, slice_query, slice_stream_query,
    transaction_query, validator_set_query, validator_set_to_v1,
};
use lockstep_proto::error::{ErrorCode, InvalidMessage, Refusal};
use lockstep_proto::v1;
use lockstep_proto::v1::log_server::Log as LogRpc;
use tonic::{Request, Response, Status};

use crate::node::Log;
use crate::reads::{Reads, unreadable};
use crate::recent::Recent;
use crate::server::client_of;
use crate::streams::{Answers, Streams};

mod following;
mod proofs;
mod shared;
mod times;

use shared::SharedSlices;

/// The service; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LogService {
    reads: Reads,
    streams: Streams,
    slices: Recent<SharedSlices>,
    full_blocks: Recent<v1::FullBlock>,
}

impl LogService {
    pub(crate) fn new(log: &Arc<dyn Log>, reads: Reads, streams: Streams) -> Self {
        let slices = Recent::new(Arc::clone(log), SharedSlices::read);
        let full_blocks = Recent::new(Arc::clone(log), shared::full_block);
        Self { reads, streams, slices, full_blocks }
    }

    /// Runs a read and makes its answer a response.
    async fn answer<Q: Sync, T: Send + 'static>(
        &self,
        request: &Request<Q>,
        read: impl FnOnce(&dyn Log) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        Ok(Response::new(self.reads.read(client_of(request), read).await?))
    }

    /// The same for what looks for an id.
    async fn answer_search<Q: Sync, T: Send + 'static>(
        &self,
        request: &Request<Q>,
        search: impl FnOnce(&dyn Log) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        Ok(Response::new(self.reads.search(client_of(request), search).await?))
    }
}

fn refused(error: InvalidMessage) -> Status {
    Refusal::from(error).into()
}

/// There is no such thing here: because it is still to come, or because this node does not hold it.
fn not_found(log: &dyn Log, field: &str, what: &str) -> Refusal {
    let head = *log.heads().borrow();
    Refusal::new(ErrorCode::NotFound, format!("{what} is not here; the head is at height {head}"))
        .of_field(field)
}

fn head(log: &dyn Log) -> Result<v1::DecidedHeader, Refusal> {
    let height = *log.heads().borrow();
    let block = log.block(BlockAt::Height(height)).map_err(unreadable)?;
    let block = block.ok_or_else(|| not_found(log, "", "a decided block"))?;
    Ok((&block.certified).into())
}

fn block(log: &dyn Log, at: BlockAt) -> Result<v1::Block, Refusal> {
    let block = log.block(at).map_err(unreadable)?.ok_or_else(|| match at {
        BlockAt::Height(height) => not_found(log, "height", &format!("block {height}")),
        BlockAt::Hash(hash) => not_found(log, "block_hash", &format!("block {hash}")),
    })?;
    Ok((&block).into())
}

fn validator_set(log: &dyn Log, height: Option<Height>) -> Result<v1::ValidatorSet, Refusal> {
    let height = height.unwrap_or_else(|| log.heads().borrow().next());
    let set = log.validator_set(height).map_err(unreadable)?.ok_or_else(|| {
        not_found(log, "height", &format!("the validator set of height {height}"))
    })?;
    Ok(validator_set_to_v1(height, &set))
}

fn handovers(log: &dyn Log, from: Height, to: Height) -> Result<Handovers, Refusal> {
    let handovers = log.handovers(from, to, HANDOVERS_PER_ANSWER_MAX).map_err(unreadable)?;
    let last = handovers.last().map(|handover| handover.block.header.height);
    let is_full = handovers.len() >= HANDOVERS_PER_ANSWER_MAX;
    let next = last.filter(|last| is_full && *last < to).map(Height::next);
    Ok(Handovers { handovers, next })
}

fn record_heights(
    log: &dyn Log,
    query: RecordHeightsQuery,
) -> Result<v1::GetRecordHeightsResponse, Refusal> {
    // What was written is found before the head is told; nobody may ask for its slice yet.
    let behind = log.heads().borrow().next();
    let before = Some(query.before.map_or(behind, |before| before.min(behind)));
    let heights = log.record_heights(RecordHeightsQuery { before, ..query }).map_err(unreadable)?;
    Ok(v1::GetRecordHeightsResponse { heights: heights.iter().map(|height| height.0).collect() })
}

#[tonic::async_trait]
impl LogRpc for LogService {
    type StreamSlicesStream = Answers<v1::ProvenSlice>;
    type StreamBlocksStream = Answers<v1::FullBlock>;

    async fn get_head(
        &self,
        request: Request<v1::GetHeadRequest>,
    ) -> Result<Response<v1::DecidedHeader>, Status> {
        self.answer(&request, head).await
    }

    async fn get_block(
        &self,
        request: Request<v1::GetBlockRequest>,
    ) -> Result<Response<v1::Block>, Status> {
        let at = request.get_ref().clone().try_into().map_err(refused)?;
        match at {
            BlockAt::Height(_) => self.answer(&request, move |log| block(log, at)).await,
            BlockAt::Hash(_) => self.answer_search(&request, move |log| block(log, at)).await,
        }
    }

    async fn get_slice(
        &self,
        request: Request<v1::GetSliceRequest>,
    ) -> Result<Response<v1::ProvenSlice>, Status> {
        let (chain, height) = slice_query(request.get_ref()).map_err(refused)?;
        Ok(Response::new(self.proven_slice(client_of(&request), chain, height).await?))
    }

    async fn get_slices(
        &self,
        request: Request<v1::GetSlicesRequest>,
    ) -> Result<Response<v1::GetSlicesResponse>, Status> {
        let query = SlicesQuery::try_from(*request.get_ref()).map_err(refused)?;
        let recent = self.slices.clone();
        self.answer(&request, move |log| Ok((&proofs::range(log, &recent, query)?).into())).await
    }

    async fn stream_slices(
        &self,
        request: Request<v1::StreamSlicesRequest>,
    ) -> Result<Response<Self::StreamSlicesStream>, Status> {
        let (chain, from) = slice_stream_query(request.get_ref()).map_err(refused)?;
        let (service, client) = (Arc::new(self.clone()), client_of(&request));
        let read = move |height| {
            let service = Arc::clone(&service);
            async move { service.proven_slice(client, chain, height).await }
        };
        Ok(Response::new(self.follow(client, from, read)?))
    }

    async fn get_transaction_proof(
        &self,
        request: Request<v1::GetTransactionProofRequest>,
    ) -> Result<Response<v1::ProvenTransaction>, Status> {
        let (chain, hash) = transaction_query(request.get_ref()).map_err(refused)?;
        self.answer_search(&request, move |log| {
            let proof = proofs::transaction(log, chain, hash)?;
            Ok((&ProvenTransaction { proof }).into())
        })
        .await
    }

    async fn get_validator_set(
        &self,
        request: Request<v1::GetValidatorSetRequest>,
    ) -> Result<Response<v1::ValidatorSet>, Status> {
        let height = validator_set_query(request.get_ref());
        self.answer(&request, move |log| validator_set(log, height)).await
    }

    async fn get_chains(
        &self,
        request: Request<v1::GetChainsRequest>,
    ) -> Result<Response<v1::GetChainsResponse>, Status> {
        self.answer(&request, |log| Ok((&log.registry()).into())).await
    }

    async fn get_genesis(
        &self,
        request: Request<v1::GetGenesisRequest>,
    ) -> Result<Response<v1::Genesis>, Status> {
        self.answer(&request, |log| Ok(log.genesis().as_ref().into())).await
    }

    async fn get_handovers(
        &self,
        request: Request<v1::GetHandoversRequest>,
    ) -> Result<Response<v1::GetHandoversResponse>, Status> {
        let (from, to) = handovers_query(request.get_ref()).map_err(refused)?;
        self.answer(&request, move |log| Ok((&handovers(log, from, to)?).into())).await
    }

    async fn get_height_at(
        &self,
        request: Request<v1::GetHeightAtRequest>,
    ) -> Result<Response<v1::GetHeightAtResponse>, Status> {
        let timestamp = UnixMillis(request.get_ref().timestamp_ms);
        self.answer(&request, move |log| {
            Ok(v1::GetHeightAtResponse { height: times::height_after(log, timestamp)?.0 })
        })
        .await
    }

    async fn get_record_heights(
        &self,
        request: Request<v1::GetRecordHeightsRequest>,
    ) -> Result<Response<v1::GetRecordHeightsResponse>, Status> {
        let query = RecordHeightsQuery::try_from(*request.get_ref()).map_err(refused)?;
        self.answer(&request, move |log| record_heights(log, query)).await
    }

    async fn stream_blocks(
        &self,
        request: Request<v1::StreamBlocksRequest>,
    ) -> Result<Response<Self::StreamBlocksStream>, Status> {
        let from = block_stream_query(request.get_ref());
        let (service, client) = (Arc::new(self.clone()), client_of(&request));
        let read = move |height| {
            let service = Arc::clone(&service);
            async move { service.full_block(client, height).await }
        };
        Ok(Response::new(self.follow(client, from, read)?))
    }
}
