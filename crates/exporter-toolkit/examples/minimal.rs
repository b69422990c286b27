//! An exporter of one gauge, with the flags and the web configuration file of Go's exporter-toolkit.

use clap::Parser;
use exporter_toolkit::{Collector, Encoder, Error, Exporter, WebFlags};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    web: WebFlags,
}

struct Temperature;

impl Collector for Temperature {
    fn collect(&self, encoder: &mut Encoder) {
        encoder.gauge("room_temperature_celsius", "Temperature of the room.", &[("room", "kitchen")], 21.5);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let exporter = Exporter::new(Temperature).bind(Cli::parse().web).await?;
    for address in exporter.addresses() {
        println!("listening on {address}");
    }
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    exporter.serve(interrupted).await;
    Ok(())
}
