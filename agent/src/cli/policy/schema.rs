//! `holdpoint policy schema`.

use std::{collections::BTreeSet, path::PathBuf};

use holdpoint_core::{
    catalog::Catalog,
    policy::editor::{self, Extent},
};

use crate::{cli::approvals::screen, policy_dir::read_policies};

/// Write the Cedar schema of policies to standard output, for editors
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory of the policies whose names the schema has to know
    dir: Option<PathBuf>,
    /// All methods of a service too, for example `sql`; may be given more than once
    #[arg(long = "service", value_name = "SERVICE", conflicts_with = "all")]
    services: Vec<String>,
    /// All methods of all services: some 28,000
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let dir = args.dir.as_deref();
    let sources = dir.map(read_policies).transpose()?.unwrap_or_default();
    let services: BTreeSet<_> = args.services.iter().cloned().collect();
    let extent = match args.all {
        true => Extent::Everything,
        false if services.is_empty() => Extent::Named,
        false => Extent::Services(services),
    };
    let schema = editor::schema(&sources, &extent, Catalog::built_in()).map_err(|unknown| {
        let unknown: Vec<_> = unknown.into_iter().collect();
        anyhow::anyhow!(
            "there is no service {}: it is what stands before the first dot of a method's id, such as `sql` or `compute`",
            unknown.join(", ")
        )
    })?;
    screen::print(&schema)
}
