//! A node that lies: a real server which asks an honest node, and changes one thing of what it answers.

use alloy_primitives::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::slice::Content;
use lockstep_core::types::ChainId;
use lockstep_proto::convert::log::{ProvenSlice, SliceRange};
use lockstep_proto::v1;
use lockstep_proto::v1::log_client::LogClient as Honest;
use lockstep_proto::v1::log_server::{Log, LogServer};
use lockstep_rpc::client::Endpoint;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{certify, set_of, strangers};

/// What is changed of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Another item in the place of a slice's first.
    ForgedItem,
    /// A slice without its last item.
    MissingItem,
    /// A certificate of keys that are no validators.
    WrongCertificate,
    /// A header that names the strangers as its set, certified by them.
    WrongSet,
    /// The slice of the height after the one that is asked for.
    OtherHeight,
    /// A range that ends one height too soon, as if there were no more. Nothing shows that it is a lie.
    ShortRange,
    /// A range with a certificate of keys that are no validators, while all it streams is true.
    ForgedRange,
}

impl Lie {
    fn of_block(self, block: &mut CertifiedHeader) {
        match self {
            Self::WrongCertificate => block.certificate = certify(&strangers(), &block.header),
            Self::WrongSet => {
                block.header.validators_hash = set_of(&strangers()).hash();
                block.certificate = certify(&strangers(), &block.header);
            }
            Self::ForgedItem
            | Self::MissingItem
            | Self::OtherHeight
            | Self::ShortRange
            | Self::ForgedRange => {}
        }
    }

    fn of_slice(self, told: &mut ProvenSlice) {
        if let ProvenSlice::Present { slice, .. } = told {
            let forged = Content::Transaction { bytes: Bytes::from_static(b"forged") };
            match (self, slice.items.first_mut()) {
                (Self::ForgedItem, Some(first)) => first.content = forged,
                (Self::MissingItem, Some(_)) => drop(slice.items.pop()),
                _ => {}
            }
        }
        match told {
            ProvenSlice::Present { proof, .. } => self.of_block(&mut proof.block),
            ProvenSlice::Absent(proof) => self.of_block(&mut proof.block),
        }
    }
}

pub(super) async fn serve(listener: TcpListener, honest: String, lie: Lie) {
    let channel = Endpoint::new(honest).connect().await.expect("the honest node listens");
    let server = LogServer::new(Liar { honest: Honest::new(channel), lie });
    let server = tonic::transport::Server::builder().add_service(server);
    server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
}

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
struct Liar {
    honest: Honest<Channel>,
    lie: Lie,
}

impl Liar {
    fn told(&self, chain: u64, told: v1::ProvenSlice) -> Result<v1::ProvenSlice, Status> {
        let read = ProvenSlice::try_from(told);
        let mut told = read.map_err(|error| Status::internal(error.to_string()))?;
        self.lie.of_slice(&mut told);
        Ok(told.to_v1(ChainId(chain)))
    }

    const fn height(&self, height: u64) -> u64 {
        match self.lie {
            Lie::OtherHeight => height.saturating_add(1),
            Lie::ForgedItem
            | Lie::MissingItem
            | Lie::WrongCertificate
            | Lie::WrongSet
            | Lie::ShortRange
            | Lie::ForgedRange => height,
        }
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
        let read = CertifiedHeader::try_from(told);
        let mut told = read.map_err(|error| Status::internal(error.to_string()))?;
        self.lie.of_block(&mut told);
        Ok(Response::new((&told).into()))
    }

    async fn get_slice(&self, request: Request<v1::GetSliceRequest>) -> Answer<v1::ProvenSlice> {
        let v1::GetSliceRequest { chain_id, height } = request.into_inner();
        let height = self.height(height);
        let request = v1::GetSliceRequest { chain_id, height };
        let told = self.honest.clone().get_slice(request).await?.into_inner();
        Ok(Response::new(self.told(chain_id, told)?))
    }

    async fn get_slices(
        &self,
        request: Request<v1::GetSlicesRequest>,
    ) -> Answer<v1::GetSlicesResponse> {
        let mut request = request.into_inner();
        let is_short = self.lie == Lie::ShortRange && request.to_height > request.from_height;
        if is_short {
            request.to_height = request.to_height.saturating_sub(1);
        }
        let told = self.honest.clone().get_slices(request).await?.into_inner();
        let read = SliceRange::try_from(told);
        let mut told = read.map_err(|error| Status::internal(error.to_string()))?;
        if let Some(mut block) = told.proof.last() {
            self.lie.of_block(&mut block);
            if let Some(last) = told.proof.blocks.last_mut() {
                last.header = block.header;
            }
            told.proof.certificate = block.certificate;
        }
        if is_short {
            told.next = None;
        }
        if let (Lie::ForgedRange, Some(last)) = (self.lie, told.proof.last()) {
            told.proof.certificate = certify(&strangers(), &last.header);
        }
        Ok(Response::new((&told).into()))
    }

    async fn stream_slices(
        &self,
        request: Request<v1::StreamSlicesRequest>,
    ) -> Answer<Self::StreamSlicesStream> {
        let v1::StreamSlicesRequest { chain_id, from_height } = request.into_inner();
        let request = v1::StreamSlicesRequest { chain_id, from_height: self.height(from_height) };
        let told = self.honest.clone().stream_slices(request).await?.into_inner();
        let liar = self.clone();
        Ok(Response::new(told.map(move |told| liar.told(chain_id, told?)).boxed()))
    }

    async fn get_handovers(
        &self,
        request: Request<v1::GetHandoversRequest>,
    ) -> Answer<v1::GetHandoversResponse> {
        self.honest.clone().get_handovers(request.into_inner()).await
    }

    async fn get_height_at(
        &self,
        request: Request<v1::GetHeightAtRequest>,
    ) -> Answer<v1::GetHeightAtResponse> {
        self.honest.clone().get_height_at(request.into_inner()).await
    }

    async fn get_record_heights(
        &self,
        request: Request<v1::GetRecordHeightsRequest>,
    ) -> Answer<v1::GetRecordHeightsResponse> {
        self.honest.clone().get_record_heights(request.into_inner()).await
    }

    async fn get_transaction_proof(
        &self,
        _: Request<v1::GetTransactionProofRequest>,
    ) -> Answer<v1::ProvenTransaction> {
        no()
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
