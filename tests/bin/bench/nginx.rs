//! nginx as a yardstick: TLS on both sides, connections kept on both sides.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use holdpoint_tests::world::World;

const HOST: &str = "sqladmin.googleapis.com";

/// A running nginx in front of the stand-in.
pub struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one, with files of its own.
    pub fn start(world: &World) -> anyhow::Result<Self> {
        let dir = world.dir().join("nginx");
        fs::create_dir(&dir)?;
        let (certificate, key) = world.google.authority().leaf_pem(HOST)?;
        fs::write(dir.join("leaf.pem"), certificate)?;
        fs::write(dir.join("key.pem"), key)?;
        // Nobody else on this host is after the port between here and nginx's own bind.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (place, google) = (dir.display(), world.google.address);
        let trusted = world.google.ca_file.display();
        let text = format!(
            "daemon off; pid {place}/pid; error_log {place}/error.log; worker_processes 2; user root;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
               fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
               upstream google {{ server {google}; keepalive 128; keepalive_requests 1000000000; }}\n\
               server {{\n\
                 listen {address} ssl; server_name {HOST}; keepalive_requests 1000000000;\n\
                 ssl_certificate {place}/leaf.pem; ssl_certificate_key {place}/key.pem;\n\
                 location / {{\n\
                   proxy_pass https://google; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
                   proxy_set_header Host {HOST}; proxy_ssl_server_name on; proxy_ssl_name {HOST};\n\
                   proxy_ssl_verify on; proxy_ssl_trusted_certificate {trusted};\n\
                   proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on;\n\
                 }}\n\
               }}\n\
             }}\n"
        );
        let config = dir.join("nginx.conf");
        fs::write(&config, text)?;
        let log = fs::File::create(dir.join("output"))?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(&config)
            .stderr(log)
            .spawn()
            .context("nginx does not start")?;
        let mut nginx = Self { child, address };
        nginx.wait(&dir)?;
        Ok(nginx)
    }

    fn wait(&mut self, dir: &std::path::Path) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "nginx did not come up: {}",
            fs::read_to_string(dir.join("output"))?
        )
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that the workers end with the master.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
