//! A router of axum, behind the flags and the web configuration file of Go's exporter-toolkit.

use axum::{Router, routing::get};
use clap::Parser;
use exporter_toolkit::{Error, WebFlags, bind_service};
use hyper_util::service::TowerToHyperService;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    web: WebFlags,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let router = Router::new().route("/temperature", get(|| async { "21.5\n" }));
    let server = bind_service(TowerToHyperService::new(router), Cli::parse().web).await?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    server.serve(interrupted).await;
    Ok(())
}
