//! x
#[derive(clap::Args)] pub struct Args {}
pub async fn run(_: &Args) -> anyhow::Result<()> { Ok(()) }
