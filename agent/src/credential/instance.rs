//! Who this Compute Engine instance is, as its metadata server signs it.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::source::{DEFAULT_ACCOUNT, escaped, metadata_text};
use crate::upstream::Upstream;

/// The instance's identity token for this audience, with all claims
/// (<https://cloud.google.com/compute/docs/instances/verifying-instance-identity>). Not verified yet.
///
/// # Errors
/// When the metadata server cannot be asked, or has none.
pub async fn token(
    upstream: &Upstream,
    address: SocketAddr,
    audience: &str,
) -> Result<Zeroizing<String>, String> {
    let audience = escaped(audience);
    let path = format!("{DEFAULT_ACCOUNT}/identity?audience={audience}&format=full");
    let token = metadata_text(upstream, address, &path).await;
    token
        .map(Zeroizing::new)
        .map_err(|cause| format!("the metadata server {address}: {cause}"))
}
