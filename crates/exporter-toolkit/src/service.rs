//! What answers requests.

use std::{error::Error, net::IpAddr};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    service::Service,
};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// What answers requests: any service of `hyper` does; a tower service is one by
/// `hyper_util::service::TowerToHyperService`. A service of `hyper` finds a [`Peer`] among the extensions of a request.
pub trait HttpService: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;
    /// After an error, the connection ends.
    type Error: Into<BoxError>;

    /// Answers a request of `peer`, where the client has an address.
    fn call(
        &self,
        request: Request<Incoming>,
        peer: Option<Peer>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>> + Send;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Body = B;
    type Error = S::Error;

    async fn call(&self, mut request: Request<Incoming>, peer: Option<Peer>) -> Result<Response<B>, S::Error> {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        Service::call(self, request).await
    }
}

/// The address of a request's client.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);
