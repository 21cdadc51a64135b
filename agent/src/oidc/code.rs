//! Signing people in with a browser: the authorization code flow with PKCE (OpenID Connect Core 1.0, section 3.1; RFC 7636; RFC 9207).

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use holdpoint_core::identity::Principal;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{TokenError, Verifier, issuer::Endpoints};
use crate::{config, credential::read_private};

/// What is asked for, as far as the issuer says that it has it.
const SCOPES: [&str; 4] = ["openid", "profile", "email", "groups"];

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The issuer could not be asked.
    #[error("the issuer cannot be asked: {0}")]
    Issuer(String),
    /// The issuer's answer is for somebody or something else.
    #[error("the issuer's answer does not belong to this sign-in: {0}; begin again")]
    Mixed(&'static str),
    /// Its ID token does not count.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Signs people in at the issuers that have a client for it.
#[derive(Debug)]
pub struct SignIn {
    clients: Vec<Client>,
    /// Of tokens whose audience is the client.
    verifier: Verifier,
}

struct Client {
    url: String,
    id: String,
    secret: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A sign-in that waits for its answer. Whoever has it can finish it once.
#[derive(Debug)]
pub struct Begun {
    client: usize,
    nonce: String,
    verifier: Zeroizing<String>,
    endpoints: Endpoints,
}

impl SignIn {
    /// Nothing is fetched yet.
    ///
    /// # Errors
    /// When an issuer's settings, or the secret of a client, cannot be used.
    pub fn new(issuers: &[config::Issuer], upstream: &config::Upstream) -> anyhow::Result<Self> {
        let (mut clients, mut audiences) = (Vec::new(), Vec::new());
        for issuer in issuers {
            let Some(id) = issuer.client_id.clone() else {
                continue;
            };
            clients.push(Client {
                url: issuer.url.clone(),
                id: id.clone(),
                secret: secret(issuer)?,
            });
            audiences.push(config::Issuer {
                audience: id,
                ..issuer.clone()
            });
        }
        let verifier = Verifier::new(&audiences, upstream)?;
        Ok(Self { clients, verifier })
    }

    /// The issuers, in the order of their numbers.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| client.url.as_str())
    }

    /// Where the browser is sent. `state` comes back with the answer.
    ///
    /// # Errors
    /// When there is no such issuer, or it cannot be asked.
    pub async fn begin(
        &self,
        client: usize,
        redirect_uri: &str,
        state: &str,
    ) -> Result<(Begun, String), SignInError> {
        let unknown = SignInError::Mixed("there is no such issuer");
        let known = self.clients.get(client).ok_or(unknown)?;
        let endpoints = self.verifier.issuers[client]
            .endpoints()
            .await
            .map_err(SignInError::Issuer)?;
        let begun = Begun {
            client,
            nonce: random(),
            verifier: Zeroizing::new(random()),
            endpoints,
        };
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(begun.verifier.as_bytes()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &known.id),
            ("redirect_uri", redirect_uri),
            ("scope", &scopes(&begun.endpoints)),
            ("state", state),
            ("nonce", &begun.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let endpoint = &begun.endpoints.authorization_endpoint;
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        let location = format!("{endpoint}{separator}{}", *query);
        Ok((begun, location))
    }

    /// Who has signed in: exchanges the code for an ID token, and verifies that. `issuer` is what the answer says whose it is, if it does.
    ///
    /// # Errors
    /// When it is not this sign-in's, or the token does not count.
    pub async fn finish(
        &self,
        begun: Begun,
        code: &str,
        issuer: Option<&str>,
        redirect_uri: &str,
    ) -> Result<Principal, SignInError> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: Zeroizing<String>,
        }
        let client = &self.clients[begun.client];
        if issuer.is_some_and(|it| it != client.url) {
            return Err(SignInError::Mixed("it is another issuer's"));
        }
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", &begun.verifier),
        ];
        let basic = match &client.secret {
            Some(secret) if begun.endpoints.takes_basic() => Some((client.id.as_str(), secret)),
            secret => {
                fields.push(("client_id", &client.id));
                fields.extend(secret.as_ref().map(|it| ("client_secret", it.as_str())));
                None
            }
        };
        let basic = basic.map(|(id, secret)| {
            let pair = Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret)));
            Zeroizing::new(format!(
                "Basic {}",
                base64::prelude::BASE64_STANDARD.encode(pair.as_bytes())
            ))
        });
        let at = &self.verifier.issuers[begun.client];
        let endpoint = &begun.endpoints.token_endpoint;
        let json = at
            .post_form(
                endpoint,
                &form(&fields),
                basic.as_ref().map(|it| it.as_str()),
            )
            .await
            .map_err(SignInError::Issuer)?;
        let Ok(tokens) = serde_json::from_slice::<Tokens>(&json) else {
            return Err(SignInError::Issuer(
                "its answer has no ID token: is this client allowed the scope openid?".to_owned(),
            ));
        };
        let person = self
            .verifier
            .verify_at(&tokens.id_token, Timestamp::now())
            .await?;
        check(&person, client, &begun.nonce)?;
        Ok(person)
    }
}

/// OpenID Connect Core 1.0, section 3.1.3.7: points 4 to 5 and 11.
fn check(person: &Principal, client: &Client, nonce: &str) -> Result<(), SignInError> {
    let claim = |name: &str| person.claims.get(name).map(String::as_str);
    if person.issuer != client.url {
        return Err(SignInError::Mixed("the token is of another issuer"));
    }
    if claim("azp").is_some_and(|azp| azp != client.id) {
        return Err(SignInError::Mixed("the token was issued to another client"));
    }
    match claim("nonce") {
        Some(found) if found == nonce => Ok(()),
        _ => Err(SignInError::Mixed("the token has another nonce")),
    }
}

fn secret(issuer: &config::Issuer) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(file) = &issuer.client_secret_file else {
        return Ok(None);
    };
    let context = || format!("the client_secret_file {}", file.display());
    let bytes = config::in_credentials_directory(file)
        .and_then(|file| read_private(&file))
        .with_context(context)?;
    let text = str::from_utf8(&bytes).map_err(|_| anyhow::anyhow!("is not text"));
    Ok(Some(Zeroizing::new(
        text.with_context(context)?.trim().to_owned(),
    )))
}

fn scopes(endpoints: &Endpoints) -> String {
    let offered = &endpoints.scopes_supported;
    let wanted = SCOPES.iter().filter(|scope| match offered {
        Some(offered) => **scope == "openid" || offered.iter().any(|it| it == *scope),
        None => **scope != "groups",
    });
    wanted.copied().collect::<Vec<_>>().join(" ")
}

fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)));
    Zeroizing::new(pairs.collect::<Vec<_>>().join("&"))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// 256 bits that nobody can guess, fit for a URL.
///
/// # Panics
/// When the kernel gives no random bytes.
#[must_use]
pub fn random() -> String {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *bytes).expect("the kernel gives random bytes");
    BASE64_URL_SAFE_NO_PAD.encode(*bytes)
}
