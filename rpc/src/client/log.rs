//! The client of the log service. Answers are of the right shape, but nothing is verified.

use alloy_primitives::B256;
use futures::{Stream, StreamExt};
use lockstep_core::params::Genesis;
use lockstep_core::proof::{CertifiedHeader, TransactionProof};
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_proto::convert::block::{Block, FullBlock};
use lockstep_proto::convert::log::{
    BlockAt, Handovers, ProvenSlice, ProvenTransaction, RecordHeightsQuery, Registry, SliceRange,
    SlicesQuery, height_at, validator_set_from_v1,
};
use lockstep_proto::v1;
use lockstep_proto::v1::log_client::LogClient as Inner;
use tonic::transport::Channel;

use super::ClientError;
use crate::limits::{MESSAGE_IN_BYTES_MAX, MESSAGE_OUT_BYTES_MAX};

/// Reads the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogClient(Inner<Channel>);

impl LogClient {
    /// A client over a connection.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self(
            Inner::new(channel)
                .max_encoding_message_size(MESSAGE_IN_BYTES_MAX)
                .max_decoding_message_size(MESSAGE_OUT_BYTES_MAX),
        )
    }

    /// The newest decided header.
    ///
    /// # Errors
    /// [`ClientError`]; not found before height 1 is decided.
    pub async fn head(&mut self) -> Result<CertifiedHeader, ClientError> {
        Ok(self.0.get_head(v1::GetHeadRequest {}).await?.into_inner().try_into()?)
    }

    /// A block.
    ///
    /// # Errors
    /// [`ClientError`]; not found if the node does not have it.
    pub async fn block(&mut self, at: BlockAt) -> Result<Block, ClientError> {
        let response = self.0.get_block(v1::GetBlockRequest::from(at)).await?;
        Ok(response.into_inner().try_into()?)
    }

    /// A chain's slice of a height, or its absence.
    ///
    /// # Errors
    /// [`ClientError`]; not found if the node does not have the height.
    pub async fn slice(
        &mut self,
        chain: ChainId,
        height: Height,
    ) -> Result<ProvenSlice, ClientError> {
        let request = v1::GetSliceRequest { chain_id: chain.0, height: height.0 };
        Ok(self.0.get_slice(request).await?.into_inner().try_into()?)
    }

    /// A chain's slices of a range of heights, or of the first part of it.
    ///
    /// # Errors
    /// [`ClientError`]; not found if the node does not have the first height.
    pub async fn slices(&mut self, query: SlicesQuery) -> Result<SliceRange, ClientError> {
        let request = v1::GetSlicesRequest {
            chain_id: query.chain.0,
            from_height: query.from.0,
            to_height: query.to.0,
        };
        Ok(self.0.get_slices(request).await?.into_inner().try_into()?)
    }

    /// A chain's slices from a height on, or from behind the head: history, then live.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses; each item may be one, too, and is the last then.
    pub async fn stream_slices(
        &mut self,
        chain: ChainId,
        from: Option<Height>,
    ) -> Result<impl Stream<Item = Result<ProvenSlice, ClientError>> + Unpin + use<>, ClientError>
    {
        let from_height = from.map_or(0, |height| height.0);
        let request = v1::StreamSlicesRequest { chain_id: chain.0, from_height };
        let slices = self.0.stream_slices(request).await?.into_inner();
        Ok(slices.map(|slice| Ok(ProvenSlice::try_from(slice?)?)))
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// [`ClientError`]; not found if no decided block of the node has it.
    pub async fn transaction(
        &mut self,
        chain: ChainId,
        hash: B256,
    ) -> Result<TransactionProof, ClientError> {
        let transaction_hash = hash.to_vec().into();
        let request = v1::GetTransactionProofRequest { chain_id: chain.0, transaction_hash };
        let response = self.0.get_transaction_proof(request).await?.into_inner();
        Ok(ProvenTransaction::try_from(response)?.proof)
    }

    /// The validator set that decides a height, or the next one.
    ///
    /// # Errors
    /// [`ClientError`]; not found if the height is too far ahead.
    pub async fn validator_set(
        &mut self,
        height: Option<Height>,
    ) -> Result<(Height, ValidatorSet), ClientError> {
        let request = v1::GetValidatorSetRequest { height: height.map_or(0, |height| height.0) };
        let response = self.0.get_validator_set(request).await?.into_inner();
        Ok(validator_set_from_v1(&response)?)
    }

    /// Registered chains and network parameters.
    ///
    /// # Errors
    /// [`ClientError`] if the node cannot be asked.
    pub async fn registry(&mut self) -> Result<Registry, ClientError> {
        Ok(self.0.get_chains(v1::GetChainsRequest {}).await?.into_inner().try_into()?)
    }

    /// The genesis. Trust it only if its hash is the network id that you know.
    ///
    /// # Errors
    /// [`ClientError`] if the node cannot be asked.
    pub async fn genesis(&mut self) -> Result<Genesis, ClientError> {
        Ok(self.0.get_genesis(v1::GetGenesisRequest {}).await?.into_inner().try_into()?)
    }

    /// The hand-overs of a range of heights, or of the first part of it.
    ///
    /// # Errors
    /// [`ClientError`] if the node cannot be asked.
    pub async fn handovers(&mut self, from: Height, to: Height) -> Result<Handovers, ClientError> {
        let request = v1::GetHandoversRequest { from_height: from.0, to_height: to.0 };
        Ok(self.0.get_handovers(request).await?.into_inner().try_into()?)
    }

    /// The first height whose block is later than a time.
    ///
    /// # Errors
    /// [`ClientError`]; not found if the node's head is not later, or if the height may lie before what it holds.
    pub async fn height_after(&mut self, timestamp: UnixMillis) -> Result<Height, ClientError> {
        let request = v1::GetHeightAtRequest { timestamp_ms: timestamp.0 };
        let response = self.0.get_height_at(request).await?.into_inner();
        Ok(height_at(&response)?)
    }

    /// At which heights a chain has records of a kind, strictly descending.
    ///
    /// # Errors
    /// [`ClientError`] if the node cannot be asked.
    pub async fn record_heights(
        &mut self,
        query: RecordHeightsQuery,
    ) -> Result<Vec<Height>, ClientError> {
        let request = v1::GetRecordHeightsRequest::from(query);
        let response = self.0.get_record_heights(request).await?.into_inner();
        Ok(query.answer(&response)?)
    }

    /// Full blocks from a height on, or from behind the head: history, then live.
    ///
    /// # Errors
    /// [`ClientError`] if the node refuses; each item may be one, too, and is the last then.
    pub async fn stream_blocks(
        &mut self,
        from: Option<Height>,
    ) -> Result<impl Stream<Item = Result<FullBlock, ClientError>> + Unpin + use<>, ClientError>
    {
        let request = v1::StreamBlocksRequest { from_height: from.map_or(0, |height| height.0) };
        let blocks = self.0.stream_blocks(request).await?.into_inner();
        Ok(blocks.map(|block| Ok(FullBlock::try_from(block?)?)))
    }
}
