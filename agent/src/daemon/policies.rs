//! Policies: read at the start, replaced while the daemon runs.

use std::sync::Arc;

use anyhow::Context as _;
use holdpoint_core::{catalog::Catalog, digest::Digest, policy::Policies};
use tokio::signal::unix::Signal;

use super::House;
use crate::{
    config::{self, Config},
    gate::InForce,
    metrics, policy_dir,
    record::Event,
};

/// Policies that were read, and what the record is told of them.
pub(super) struct Loaded {
    pub(super) in_force: InForce,
    pub(super) event: Event,
}

impl Loaded {
    pub(super) fn read(config: &Config, mode: config::Mode) -> anyhow::Result<Self> {
        let (policies, digest) = load_policies(config)?;
        let event = Event::PoliciesLoaded {
            policies: policies.iter().count() as u64,
            digest,
            mode,
        };
        let in_force = InForce {
            policies,
            digest,
            mode,
        };
        Ok(Self { in_force, event })
    }
}

/// That these policies are in force is nothing to overlook when they do not count.
pub(super) fn announce(mode: config::Mode) {
    if mode == config::Mode::Observe {
        tracing::warn!(
            "POLICY IS ONLY OBSERVED ([policy] mode = \"observe\"): what it denies or would hold passes, and is recorded"
        );
    }
    metrics::metrics().policy_mode(mode);
}

/// Reloads the policies when told to, one time after the other; told again meanwhile, once more. Of the configuration it reads whether they
/// count: the rest of it is read at the daemon's start only.
pub(super) async fn keep_reloading(house: Arc<House>, config: Arc<Config>, mut told: Signal) {
    while told.recv().await.is_some() {
        match reload(&house, config.clone()).await {
            Ok(()) => tracing::info!(dir = %config.policies.display(), "policies reloaded"),
            Err(error) => tracing::error!("the running policies stay in force: {error:#}"),
        }
    }
}

async fn reload(house: &House, config: Arc<Config>) -> anyhow::Result<()> {
    // Thousands of policies take a second, in which sessions are served.
    let read = tokio::task::spawn_blocking(move || {
        let mode = Config::load(&config.file)?.policy.mode;
        Loaded::read(&config, mode)
    });
    let Loaded { in_force, event } = read.await.context("the loading of policies panicked")??;
    let mode = in_force.mode;
    // On record before anything passes by them.
    house.record.append(event).await?;
    house.gate.replace_policies(in_force).await;
    announce(mode);
    Ok(())
}

/// The policies, with reviewers in the configuration for every hold, and the digest of their files.
pub(crate) fn load_policies(config: &Config) -> anyhow::Result<(Policies, Digest)> {
    let dir = config.policies.display();
    let sources = policy_dir::read_policies(&config.policies)?;
    let policies = Policies::load(&sources, Catalog::built_in()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the policies in {dir} are not valid:\n{}", lines.join("\n"))
    })?;
    for doubt in policies.doubts(&sources, Catalog::built_in()) {
        tracing::warn!("{dir}/{doubt}");
    }
    let unfit: Vec<_> = policy_dir::unfit(&policies, config)
        .iter()
        .map(ToString::to_string)
        .collect();
    anyhow::ensure!(
        unfit.is_empty(),
        "the policies in {dir} do not fit the configuration:\n{}",
        unfit.join("\n")
    );
    let parts = sources
        .iter()
        .flat_map(|source| [source.file.as_bytes(), source.text.as_bytes()]);
    Ok((policies, Digest::of(&parts.collect::<Vec<_>>())))
}
