//! A node that lies: a real server which asks an honest node, and changes what a test says of its answers.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use lockstep_core::proof::{CertifiedHeader, TransactionProof};
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::convert::log::{Handovers, ProvenSlice, ProvenTransaction, SliceRange};
use lockstep_proto::v1;
use lockstep_proto::v1::log_client::LogClient as Honest;
use lockstep_proto::v1::log_server::{Log, LogServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// What a liar does to the truth, one field per kind of answer. `T` is what it knows beside.
#[derive(Debug)]
pub struct Lies<T: 'static> {
    /// To the certified header of every answer.
    pub block: fn(&T, &mut CertifiedHeader),
    /// To what a chain has at one height, asked for or streamed.
    pub slice: fn(&T, &mut ProvenSlice),
    /// The only height at which that is done; `None` for all. A stream runs ahead of who reads it.
    pub slice_at: Option<Height>,
    /// To what a chain has at several heights.
    pub range: fn(&T, &mut SliceRange),
    /// Which range it asks for in the place of another.
    pub asked_range: fn(&mut v1::GetSlicesRequest),
    /// To where a transaction is.
    pub transaction: fn(&T, &mut TransactionProof),
    /// To the hand-overs from a height on.
    pub handovers: fn(Height, &mut Handovers),
    /// Which height it asks for in the place of another, for one slice or the first of a stream.
    pub asked: fn(u64) -> u64,
    /// Which height a stream has in the place of another.
    pub order: fn(u64) -> u64,
    /// To the first height after a time.
    pub height_at: fn(&mut u64),
    /// To the heights that have records.
    pub record_heights: fn(&mut Vec<u64>),
    /// To whole blocks, as a full node gets them.
    pub full_block: fn(&mut v1::FullBlock),
}

impl<T: 'static> Clone for Lies<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: 'static> Copy for Lies<T> {}

impl<T: 'static> Lies<T> {
    /// The truth.
    pub const NONE: Self = Self {
        block: |_, _| {},
        slice: |_, _| {},
        slice_at: None,
        range: |_, _| {},
        asked_range: |_| {},
        transaction: |_, _| {},
        handovers: |_, _| {},
        asked: |height| height,
        order: |height| height,
        height_at: |_| {},
        record_heights: |_| {},
        full_block: |_| {},
    };
}

/// Serves a liar that asks the node at `honest`, for as long as the listener's runtime lives.
pub async fn serve<T: Send + Sync + 'static>(
    listener: TcpListener,
    honest: Channel,
    known: Arc<T>,
    lies: Lies<T>,
) {
    let server = LogServer::new(Liar { honest: Honest::new(honest), known, lies });
    let server = tonic::transport::Server::builder().add_service(server);
    server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
}

type Answer<T> = Result<Response<T>, Status>;

struct Liar<T: 'static> {
    honest: Honest<Channel>,
    known: Arc<T>,
    lies: Lies<T>,
}

impl<T: 'static> Clone for Liar<T> {
    fn clone(&self) -> Self {
        let Self { honest, known, lies } = self;
        Self { honest: honest.clone(), known: Arc::clone(known), lies: *lies }
    }
}

impl<T: 'static> Liar<T> {
    fn told(&self, chain: u64, told: v1::ProvenSlice) -> Result<v1::ProvenSlice, Status> {
        let mut told = read::<ProvenSlice, _>(told)?;
        let block = match &mut told {
            ProvenSlice::Present { proof, .. } => &mut proof.block,
            ProvenSlice::Absent(proof) => &mut proof.block,
        };
        let height = block.header.height;
        (self.lies.block)(&self.known, block);
        if self.lies.slice_at.is_none_or(|at| at == height) {
            (self.lies.slice)(&self.known, &mut told);
        }
        Ok(told.to_v1(ChainId(chain)))
    }

    /// One slice of a stream, or the one that comes in its place.
    async fn streamed(
        &self,
        chain: u64,
        told: Result<v1::ProvenSlice, Status>,
    ) -> Result<v1::ProvenSlice, Status> {
        let mut told = told?;
        let height = match read::<ProvenSlice, _>(told.clone())? {
            ProvenSlice::Present { proof, .. } => proof.block.header.height,
            ProvenSlice::Absent(proof) => proof.block.header.height,
        };
        let other = (self.lies.order)(height.0);
        if other != height.0 {
            let request = v1::GetSliceRequest { chain_id: chain, height: other };
            told = self.honest.clone().get_slice(request).await?.into_inner();
        }
        self.told(chain, told)
    }
}

/// An honest answer, read.
fn read<R: TryFrom<M>, M>(message: M) -> Result<R, Status>
where
    R::Error: std::fmt::Display,
{
    R::try_from(message).map_err(|error| Status::internal(error.to_string()))
}

fn no<R>() -> Answer<R> {
    Err(Status::unimplemented("a liar is not asked for this"))
}

#[tonic::async_trait]
impl<T: Send + Sync + 'static> Log for Liar<T> {
    type StreamSlicesStream = BoxStream<'static, Result<v1::ProvenSlice, Status>>;
    type StreamBlocksStream = BoxStream<'static, Result<v1::FullBlock, Status>>;

    async fn get_head(&self, request: Request<v1::GetHeadRequest>) -> Answer<v1::DecidedHeader> {
        let told = self.honest.clone().get_head(request.into_inner()).await?.into_inner();
        let mut told = read::<CertifiedHeader, _>(told)?;
        (self.lies.block)(&self.known, &mut told);
        Ok(Response::new((&told).into()))
    }

    async fn get_slice(&self, request: Request<v1::GetSliceRequest>) -> Answer<v1::ProvenSlice> {
        let v1::GetSliceRequest { chain_id, height } = request.into_inner();
        let request = v1::GetSliceRequest { chain_id, height: (self.lies.asked)(height) };
        let told = self.honest.clone().get_slice(request).await?.into_inner();
        Ok(Response::new(self.told(chain_id, told)?))
    }

    async fn get_slices(
        &self,
        request: Request<v1::GetSlicesRequest>,
    ) -> Answer<v1::GetSlicesResponse> {
        let mut request = request.into_inner();
        (self.lies.asked_range)(&mut request);
        let told = self.honest.clone().get_slices(request).await?.into_inner();
        let mut told = read::<SliceRange, _>(told)?;
        if let Some(mut block) = told.proof.last() {
            (self.lies.block)(&self.known, &mut block);
            if let Some(last) = told.proof.blocks.last_mut() {
                last.header = block.header;
            }
            told.proof.certificate = block.certificate;
        }
        (self.lies.range)(&self.known, &mut told);
        Ok(Response::new((&told).into()))
    }

    async fn stream_slices(
        &self,
        request: Request<v1::StreamSlicesRequest>,
    ) -> Answer<Self::StreamSlicesStream> {
        let v1::StreamSlicesRequest { chain_id, from_height } = request.into_inner();
        let from_height = (self.lies.asked)(from_height);
        let request = v1::StreamSlicesRequest { chain_id, from_height };
        let told = self.honest.clone().stream_slices(request).await?.into_inner();
        let liar = self.clone();
        let told = told.then(move |told| {
            let liar = liar.clone();
            async move { liar.streamed(chain_id, told).await }
        });
        Ok(Response::new(told.boxed()))
    }

    async fn stream_blocks(
        &self,
        request: Request<v1::StreamBlocksRequest>,
    ) -> Answer<Self::StreamBlocksStream> {
        let blocks = self.honest.clone().stream_blocks(request.into_inner()).await?.into_inner();
        let lie = self.lies.full_block;
        let told = blocks.map(move |block| {
            let mut block = block?;
            lie(&mut block);
            Ok(block)
        });
        Ok(Response::new(told.boxed()))
    }

    async fn get_transaction_proof(
        &self,
        request: Request<v1::GetTransactionProofRequest>,
    ) -> Answer<v1::ProvenTransaction> {
        let told = self.honest.clone().get_transaction_proof(request.into_inner()).await?;
        let mut told = read::<ProvenTransaction, _>(told.into_inner())?;
        (self.lies.block)(&self.known, &mut told.proof.block);
        (self.lies.transaction)(&self.known, &mut told.proof);
        Ok(Response::new((&told).into()))
    }

    async fn get_handovers(
        &self,
        request: Request<v1::GetHandoversRequest>,
    ) -> Answer<v1::GetHandoversResponse> {
        let from = Height(request.get_ref().from_height);
        let told = self.honest.clone().get_handovers(request.into_inner()).await?.into_inner();
        let mut told = read::<Handovers, _>(told)?;
        (self.lies.handovers)(from, &mut told);
        Ok(Response::new((&told).into()))
    }

    async fn get_height_at(
        &self,
        request: Request<v1::GetHeightAtRequest>,
    ) -> Answer<v1::GetHeightAtResponse> {
        let mut told = self.honest.clone().get_height_at(request.into_inner()).await?.into_inner();
        (self.lies.height_at)(&mut told.height);
        Ok(Response::new(told))
    }

    async fn get_record_heights(
        &self,
        request: Request<v1::GetRecordHeightsRequest>,
    ) -> Answer<v1::GetRecordHeightsResponse> {
        let told = self.honest.clone().get_record_heights(request.into_inner()).await?;
        let mut told = told.into_inner();
        (self.lies.record_heights)(&mut told.heights);
        Ok(Response::new(told))
    }

    async fn get_block(&self, _: Request<v1::GetBlockRequest>) -> Answer<v1::Block> {
        no()
    }
    async fn get_validator_set(
        &self,
        _: Request<v1::GetValidatorSetRequest>,
    ) -> Answer<v1::ValidatorSet> {
        no()
    }
    async fn get_chains(&self, _: Request<v1::GetChainsRequest>) -> Answer<v1::GetChainsResponse> {
        no()
    }
    async fn get_genesis(&self, _: Request<v1::GetGenesisRequest>) -> Answer<v1::Genesis> {
        no()
    }
}
