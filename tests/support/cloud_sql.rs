//! A stand-in for one PostgreSQL instance of Cloud SQL: what its API tells connectors, and its port 3307, where nobody gets in without a certificate that
//! this API has signed.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use http::StatusCode;
use jiff::Timestamp;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    postgres::Postgres,
    stand_in::{Answer, Authority, Call, PROJECT},
    world::World,
};

/// The instance's id.
pub const INSTANCE: &str = "prod-db";
/// Its region.
pub const REGION: &str = "us-central1";
/// Where its settings say that it is. Nobody has that address (RFC 5737).
pub const INSTANCE_ADDRESS: &str = "203.0.113.10";
/// Where connectors find it.
pub const CONNECTOR_PORT: u16 = 3307;

/// `PROJECT:REGION:INSTANCE`.
#[must_use]
pub fn connection_name() -> String {
    format!("{PROJECT}:{REGION}:{INSTANCE}")
}

/// The path of one of its methods, `connectSettings` or `:generateEphemeralCert` for example.
#[must_use]
pub fn path_of(method: &str) -> String {
    format!("/sql/v1beta4/projects/{PROJECT}/instances/{INSTANCE}{method}")
}

/// A running instance; it ends when dropped.
pub struct CloudSql {
    /// Where its port 3307 really is.
    pub door: SocketAddr,
    instance: Arc<Instance>,
    _runtime: Runtime,
}

struct Instance {
    name: &'static str,
    /// Signs the instance's own certificate.
    server: Authority,
    /// Signs those of connectors.
    clients: Authority,
    /// The name in its certificate, as instances have it whose CA is a shared one; others have but a common name.
    dns_name: Option<&'static str>,
    lifetime: Duration,
    /// The database behind the door, for who brings a password.
    database: SocketAddr,
    /// And for who has an access token in the certificate: nothing else is asked of those.
    trusted: PathBuf,
    signed: Mutex<HashMap<[u8; 32], Signed>>,
    entered: Mutex<Vec<Signed>>,
    moved: Mutex<Option<SocketAddr>>,
}

/// What a certificate was signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate, in PEM.
    pub certificate: String,
    /// The access token in it.
    pub access_token: Option<String>,
}

/// What instances can differ in.
#[derive(Clone, Copy, Debug)]
pub struct InstanceOptions {
    /// A name in its certificate, where it has one.
    pub dns_name: Option<&'static str>,
    /// How long the certificates are good that it signs.
    pub lifetime: Duration,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self {
            dns_name: None,
            lifetime: Duration::from_hours(1),
        }
    }
}

impl CloudSql {
    /// One in front of this database.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn before(postgres: &Postgres, options: InstanceOptions) -> Self {
        Self::start(postgres, options).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn start(postgres: &Postgres, options: InstanceOptions) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cloud-sql")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let instance = Arc::new(Instance {
            name: INSTANCE,
            server: Authority::new("Stand-in Cloud SQL server CA")?,
            clients: Authority::new("Stand-in Cloud SQL client CA")?,
            dns_name: options.dns_name,
            lifetime: options.lifetime,
            database: postgres.address,
            trusted: postgres.socket(),
            signed: Mutex::default(),
            entered: Mutex::default(),
            moved: Mutex::default(),
        });
        let door = listener.local_addr()?;
        let tls = TlsAcceptor::from(Arc::new(instance.tls()?));
        runtime.spawn(instance.clone().serve(listener, tls));
        Ok(Self {
            door,
            instance,
            _runtime: runtime,
        })
    }

    /// Has Google tell of it in this world.
    pub fn open_in(&self, world: &World) {
        let instance = self.instance.clone();
        let settings = move |_: &Call| Answer::json(&instance.settings());
        let script = world.google.script();
        script.answer_by("GET", &path_of("/connectSettings"), settings);
        let instance = self.instance.clone();
        let token = world.google.token().to_owned();
        let sign = move |call: &Call| instance.certify(call, &token);
        script.answer_by("POST", &path_of(":generateEphemeralCert"), sign);
    }

    /// Whoever comes to its door is at another one from now on.
    pub fn leads_to(&self, door: SocketAddr) {
        let moved = self.instance.moved.lock();
        *moved.expect("no panic while locked") = Some(door);
    }

    /// The certificates that it has signed.
    #[must_use]
    pub fn signed(&self) -> Vec<Signed> {
        let signed = self.instance.signed.lock().expect("no panic while locked");
        signed.values().cloned().collect()
    }

    /// Whose certificates got in, in order.
    #[must_use]
    pub fn entered(&self) -> Vec<Signed> {
        let entered = self.instance.entered.lock();
        entered.expect("no panic while locked").clone()
    }

    /// What Google tells connectors of it.
    #[must_use]
    pub fn settings(&self) -> Value {
        self.instance.settings()
    }

    /// The CA of its certificate, in PEM.
    #[must_use]
    pub fn server_ca(&self) -> &str {
        self.instance.server.pem()
    }
}

impl Instance {
    /// `ConnectSettings` (<https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1beta4/connect/get>).
    fn settings(&self) -> Value {
        let mut settings = json!({
            "kind": "sql#connectSettings",
            "serverCaCert": {
                "kind": "sql#sslCert", "certSerialNumber": "0", "cert": self.server.pem(),
                "commonName": "C=US,O=Google\\, Inc,CN=Google Cloud SQL Server CA", "sha1Fingerprint": "00",
                "instance": self.name, "createTime": "2026-01-01T00:00:00Z", "expirationTime": "2036-01-01T00:00:00Z",
            },
            "ipAddresses": [{"type": "PRIMARY", "ipAddress": INSTANCE_ADDRESS}],
            "region": REGION, "databaseVersion": "POSTGRES_15", "backendType": "SECOND_GEN",
            "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
        });
        if let Some(name) = self.dns_name {
            settings["dnsName"] = json!(format!("{name}."));
            settings["serverCaMode"] = json!("GOOGLE_MANAGED_CAS_CA");
        }
        settings
    }

    /// `GenerateEphemeralCertResponse`. A token that Google has not given out is good for nothing.
    fn certify(&self, call: &Call, good: &str) -> Answer {
        let body = call.json();
        let token = body["access_token"].as_str().map(str::to_owned);
        if token.as_deref().is_some_and(|token| token != good) {
            let why = "The access token is not valid (stand-in Cloud SQL).";
            return Answer::error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", why);
        }
        let key = body["public_key"].as_str().unwrap_or_default();
        let until = SystemTime::now() + self.lifetime;
        let Ok(certificate) = self.clients.client_pem(key, "stand-in client", until) else {
            let why = "public_key is none (stand-in Cloud SQL).";
            return Answer::error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", why);
        };
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("just made");
        let mut signed = self.signed.lock().expect("no panic while locked");
        let of = Signed {
            certificate: certificate.clone(),
            access_token: token,
        };
        signed.insert(fingerprint(&der), of);
        let until = Timestamp::try_from(until).expect("it is not that long");
        Answer::json(&json!({"ephemeralCert": {
            "kind": "sql#sslCert", "cert": certificate, "instance": self.name, "expirationTime": until.to_string(),
        }}))
    }

    fn tls(&self) -> anyhow::Result<ServerConfig> {
        let common_name = format!("{PROJECT}:{}", self.name);
        let names: Vec<&str> = self.dns_name.into_iter().collect();
        let (certificate, key) = self.server.leaf_pem_for(&common_name, &names)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(
            self.clients.pem().as_bytes(),
        )?)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, tls: TlsAcceptor) {
        while let Ok((stream, _)) = listener.accept().await {
            let (instance, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                // Who is refused, or goes away, has the error.
                let _ = instance.let_in(stream, &tls).await;
            });
        }
    }

    async fn let_in(&self, mut stream: TcpStream, tls: &TlsAcceptor) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let moved = *self.moved.lock().expect("no panic while locked");
        if let Some(door) = moved {
            let mut other = TcpStream::connect(door).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut other).await?;
            return Ok(());
        }
        let mut client = tls.accept(stream).await?;
        let chain = client.get_ref().1.peer_certificates();
        let certificate = chain.and_then(|it| it.first()).context("no certificate")?;
        let signed = {
            let signed = self.signed.lock().expect("no panic while locked");
            let found = signed.get(&fingerprint(certificate));
            found.context("no certificate of ours")?.clone()
        };
        let has_token = signed.access_token.is_some();
        self.entered
            .lock()
            .expect("no panic while locked")
            .push(signed);
        if has_token {
            let mut database = UnixStream::connect(&self.trusted).await?;
            tokio::io::copy_bidirectional(&mut client, &mut database).await?;
        } else {
            let mut database = TcpStream::connect(self.database).await?;
            database.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut client, &mut database).await?;
        }
        Ok(())
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
