//! A node that lies: a real server which asks an honest node, and changes one thing of what it answers.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use lockstep_core::proof::{CertifiedHeader, TransactionProof};
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::convert::log::{Handovers, ProvenSlice, ProvenTransaction, SliceRange};
use lockstep_proto::v1;
use lockstep_proto::v1::log_client::LogClient as Honest;
use lockstep_proto::v1::log_server::{Log, LogServer};
use lockstep_rpc::client::{Endpoint, LogClient};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{MemoryLog, Node};

type Answer<T> = Result<Response<T>, Status>;

/// What a liar does to the truth, one field per kind of answer.
#[derive(Clone, Copy)]
pub(crate) struct Lies {
    /// To the certified header of every answer.
    pub(crate) block: fn(&MemoryLog, &mut CertifiedHeader),
    /// To what a chain has at one height, asked for or streamed.
    pub(crate) slice: fn(&MemoryLog, &mut ProvenSlice),
    /// To what a chain has at several heights.
    pub(crate) range: fn(&MemoryLog, &mut SliceRange),
    /// To where a transaction is.
    pub(crate) transaction: fn(&MemoryLog, &mut TransactionProof),
    /// To the hand-overs from a height on.
    pub(crate) handovers: fn(Height, &mut Handovers),
    /// Which height a stream tells of in the place of another.
    pub(crate) order: fn(u64) -> u64,
    /// To the first height after a time.
    pub(crate) height_at: fn(&mut u64),
    /// To the heights that have records.
    pub(crate) record_heights: fn(&mut Vec<u64>),
}

impl Lies {
    /// The truth.
    pub(crate) const NONE: Self = Self {
        block: |_, _| {},
        slice: |_, _| {},
        range: |_, _| {},
        transaction: |_, _| {},
        handovers: |_, _| {},
        order: |height| height,
        height_at: |_| {},
        record_heights: |_| {},
    };
}

impl Node {
    /// A client of a liar that asks this node. It serves as long as the test's runtime lives.
    pub(crate) async fn liar(&self, lies: Lies) -> LogClient {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let honest = Honest::new(self.channel().await);
        let server = LogServer::new(Liar { honest, log: Arc::clone(&self.log), lies });
        let server = tonic::transport::Server::builder().add_service(server);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        LogClient::new(Endpoint::new(url).connect().await.unwrap())
    }
}

#[derive(Clone)]
struct Liar {
    honest: Honest<Channel>,
    log: Arc<MemoryLog>,
    lies: Lies,
}

impl Liar {
    async fn slice(&self, request: v1::GetSliceRequest) -> Result<v1::ProvenSlice, Status> {
        let chain = ChainId(request.chain_id);
        let told = self.honest.clone().get_slice(request).await?.into_inner();
        let mut told = ProvenSlice::try_from(told).unwrap();
        let block = match &mut told {
            ProvenSlice::Present { proof, .. } => &mut proof.block,
            ProvenSlice::Absent(proof) => &mut proof.block,
        };
        (self.lies.block)(&self.log, block);
        (self.lies.slice)(&self.log, &mut told);
        Ok(told.to_v1(chain))
    }
}

fn no<T>() -> Answer<T> {
    Err(Status::unimplemented("a liar is not asked for this"))
}

#[tonic::async_trait]
impl Log for Liar {
    type StreamSlicesStream = BoxStream<'static, Result<v1::ProvenSlice, Status>>;
    type StreamBlocksStream = BoxStream<'static, Result<v1::FullBlock, Status>>;

    async fn get_head(&self, request: Request<v1::GetHeadRequest>) -> Answer<v1::DecidedHeader> {
        let told = self.honest.clone().get_head(request.into_inner()).await?.into_inner();
        let mut told = CertifiedHeader::try_from(told).unwrap();
        (self.lies.block)(&self.log, &mut told);
        Ok(Response::new((&told).into()))
    }

    async fn get_slice(&self, request: Request<v1::GetSliceRequest>) -> Answer<v1::ProvenSlice> {
        Ok(Response::new(self.slice(request.into_inner()).await?))
    }

    async fn get_slices(
        &self,
        request: Request<v1::GetSlicesRequest>,
    ) -> Answer<v1::GetSlicesResponse> {
        let told = self.honest.clone().get_slices(request.into_inner()).await?.into_inner();
        let mut told = SliceRange::try_from(told).unwrap();
        let mut block = told.proof.last().unwrap();
        (self.lies.block)(&self.log, &mut block);
        told.proof.blocks.last_mut().unwrap().header = block.header;
        told.proof.certificate = block.certificate;
        (self.lies.range)(&self.log, &mut told);
        Ok(Response::new((&told).into()))
    }

    async fn stream_slices(
        &self,
        request: Request<v1::StreamSlicesRequest>,
    ) -> Answer<Self::StreamSlicesStream> {
        let v1::StreamSlicesRequest { chain_id, from_height } = request.into_inner();
        let liar = self.clone();
        let slices = futures::stream::iter(from_height..).then(move |height| {
            let (liar, height) = (liar.clone(), (liar.lies.order)(height));
            async move { liar.slice(v1::GetSliceRequest { chain_id, height }).await }
        });
        Ok(Response::new(slices.boxed()))
    }

    async fn get_transaction_proof(
        &self,
        request: Request<v1::GetTransactionProofRequest>,
    ) -> Answer<v1::ProvenTransaction> {
        let told = self.honest.clone().get_transaction_proof(request.into_inner()).await?;
        let mut told = ProvenTransaction::try_from(told.into_inner()).unwrap();
        (self.lies.block)(&self.log, &mut told.proof.block);
        (self.lies.transaction)(&self.log, &mut told.proof);
        Ok(Response::new((&told).into()))
    }

    async fn get_handovers(
        &self,
        request: Request<v1::GetHandoversRequest>,
    ) -> Answer<v1::GetHandoversResponse> {
        let from = Height(request.get_ref().from_height);
        let told = self.honest.clone().get_handovers(request.into_inner()).await?.into_inner();
        let mut told = Handovers::try_from(told).unwrap();
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
    async fn stream_blocks(
        &self,
        _: Request<v1::StreamBlocksRequest>,
    ) -> Answer<Self::StreamBlocksStream> {
        no()
    }
}
