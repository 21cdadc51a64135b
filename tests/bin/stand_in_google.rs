//! The stand-in Google on its own, to try clients and Holdpoint against by hand.

use std::path::PathBuf;

use clap::Parser;
use holdpoint_tests::stand_in::StandIn;

/// Serves a stand-in Google on loopback until it is killed.
#[derive(Parser)]
struct Args {
    /// Where `ca.pem`, `key.json`, `upstream.jsonl`, `address` and `metadata-address` go.
    dir: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let google = StandIn::start(&Args::parse().dir)?;
    println!("Google's hosts    https://{}", google.address);
    println!("metadata server   http://{}", google.metadata);
    println!("certificate       {}", google.ca_file.display());
    println!("key file          {}", google.key_file.display());
    loop {
        std::thread::park();
    }
}
