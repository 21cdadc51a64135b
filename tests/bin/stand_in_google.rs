//! What Holdpoint needs around it, to try it by hand without a cloud and without a CI system.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use holdpoint_tests::{configuration, files, issuer::Issuer, stand_in::StandIn, world::Settings};

/// How often the token is made anew; each is good for five minutes.
const ANEW: Duration = Duration::from_secs(120);

/// Serves a stand-in Google and an OIDC issuer on loopback until it is killed.
#[derive(Parser)]
struct Args {
    /// Where all files go: `holdpoint.toml`, `policies`, `token`, and Google's own, `upstream.jsonl` among them.
    dir: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let dir = Args::parse().dir;
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let google = StandIn::start(&dir.join("google"))?;
    let issuer = Issuer::start()?;
    files::copy_policies(&dir.join("policies"), "")?;
    let settings = Settings::default();
    let text = configuration::text(&dir, "holdpoint-by-hand", &google, &issuer, &settings)?;
    fs::write(dir.join("holdpoint.toml"), text)?;
    println!("Google's hosts    https://{}", google.address);
    println!("metadata server   http://{}", google.metadata);
    println!("certificate       {}", google.ca_file.display());
    println!("key file          {}", google.key_file.display());
    println!("what arrives      {}", google.journal().path().display());
    println!("configuration     {}", dir.join("holdpoint.toml").display());
    println!("CI's token        {}", dir.join("token").display());
    loop {
        let token = dir.join("token");
        fs::write(&token, issuer.token())?;
        fs::set_permissions(&token, Permissions::from_mode(0o644))?;
        std::thread::sleep(ANEW);
    }
}
