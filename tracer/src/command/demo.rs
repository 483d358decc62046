//! demo
use crate::cli::DemoArgs;
/// x
pub async fn run(_args: DemoArgs) -> anyhow::Result<()> {
    Ok(())
}
