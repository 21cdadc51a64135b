//! Cloud Storage by the daemon's own client and credential.

use std::{pin::Pin, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use object_store::{
    ClientOptions, CredentialProvider, Error,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    },
    gcp::GcpCredential,
};

use crate::{credential::Credentials, upstream::Upstream};

/// For one object, or one page of a listing.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Of an answer: a page of a listing has 1,000 names.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives the store the daemon's client.
#[derive(Debug)]
pub(super) struct Connector(pub(super) Upstream);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.clone())))
    }
}

#[derive(Debug)]
struct Service(Upstream);

// Both traits are written with `async_trait`; this is what it makes of their functions.
impl HttpService for Service {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Boxed<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = http::Request::from_parts(head, body);
            let answer = self.0.fetch(request, LONGEST_ANSWER, TIMEOUT).await;
            let answer = answer.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            Ok(answer.map(Into::into))
        })
    }
}

/// Gives the store the daemon's credential.
#[derive(Debug)]
pub(super) struct Credential(pub(super) Arc<Credentials>);

impl CredentialProvider for Credential {
    type Credential = GcpCredential;

    fn get_credential<'a, 'b>(&'a self) -> Boxed<'b, object_store::Result<Arc<GcpCredential>>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic {
                store: "GCS",
                source,
            };
            let header = self
                .0
                .authorization()
                .await
                .map_err(|it| failed(it.into()))?;
            let text = header.to_str().map_err(|it| failed(it.into()))?;
            let bearer = text.strip_prefix("Bearer ").unwrap_or(text).to_owned();
            Ok(Arc::new(GcpCredential { bearer }))
        })
    }
}
