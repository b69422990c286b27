//! The exporter against the built-in simulator, in one process; and the simulator alone.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use exporter_toolkit::{Error, Inherited, ListenAddress, server};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, RunError, Signals, stop_on_signal},
    cli::Simulate,
    clock::WallClock,
    config::{Config, Document, Overrides, Sources},
};
use koodrive_simulator::{Roster, Simulator};

/// The demo's accounts: two that sign and one with a token.
const DEMO_ROSTER: Roster = Roster { accounts: 3 };
const DEMO_INTERVAL: &str = "5s";
const ALL_COLLECTORS: &str = "collectors: [overview, usage, subscription]\n";
const DEMO_ADDRESS: &str = "127.0.0.1:10710";
const ANY_PORT: &str = "127.0.0.1:0";

/// Runs exporter and simulator until a signal. Without a flag it listens on port 10710, or on a free
/// one where that is taken.
///
/// # Errors
/// When a flag is wrong or an address can't be bound.
pub async fn demo(mut overrides: Overrides, inherited: Option<Inherited>) -> Result<(), RunError> {
    let signals = Signals::listen()?;
    let simulator = Simulator::new(&DEMO_ROSTER, WallClock::system().0);
    let upstream = simulator.bind(&address(ANY_PORT)?).await.map_err(Error::from)?;
    let endpoint = http_url(&upstream);
    let stop_simulator = CancellationToken::new().drop_guard();
    tokio::spawn(simulator.serve(upstream, stop_simulator.token().clone()));

    if !overrides.has("web.listen_addresses") && inherited.is_none() {
        let usual_is_free = server::bind(&[address(DEMO_ADDRESS)?], None).await.is_ok();
        overrides = overrides.with("web.listen_addresses", Some(if usual_is_free { DEMO_ADDRESS } else { ANY_PORT }));
    }
    let document = Document::BuiltIn(ALL_COLLECTORS.to_owned() + &DEMO_ROSTER.configuration(&endpoint, DEMO_INTERVAL));
    let sources = Sources { document: Some(document), environment: Vec::new(), overrides };
    let config = Config::load(&sources)?;
    let (paths, scheme) = (config.web.options.paths.clone(), if has_tls(&config) { "https" } else { "http" });
    let app = App::new(config)?;
    let listening = |addresses: &[ListenAddress]| {
        let exporter = match addresses.first() {
            Some(ListenAddress::Tcp(address)) => format!("{scheme}://{address}"),
            Some(unix) => unix.to_string(),
            None => String::new(),
        };
        tell_user(&format!(
            "status page   {exporter}{}\n\
             metrics       {exporter}{}{}\n\
             simulator     {endpoint}/simulator\n\
             Three simulated accounts are polled every {DEMO_INTERVAL}. Stop with Ctrl-C.",
            paths.landing_page(),
            paths.prefix,
            paths.telemetry,
        ));
    };
    app.run(signals, sources, None, inherited, listening).await
}

/// Runs the simulator until a signal.
///
/// # Errors
/// When the address can't be bound or the configuration can't be written.
pub async fn simulate(options: &Simulate) -> Result<(), RunError> {
    let roster = Roster { accounts: options.accounts };
    let simulator = Simulator::new(&roster, WallClock::system().0);
    let stop = stop_on_signal()?;
    let bound = simulator.bind(&address(&options.listen_address)?).await.map_err(Error::from)?;
    let endpoint = http_url(&bound);
    if let Some(path) = &options.write_config {
        let yaml = ALL_COLLECTORS.to_owned() + &roster.configuration(&endpoint, &options.interval);
        Config::load(&Sources { document: Some(Document::BuiltIn(yaml.clone())), ..Sources::default() })?;
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path);
        open.and_then(|mut file| file.write_all(yaml.as_bytes())).map_err(RunError::Write)?;
    }
    tell_user(&format!("simulator     {endpoint}/simulator"));
    simulator.serve(bound, stop).await;
    Ok(())
}

fn has_tls(config: &Config) -> bool {
    config.web.options.web_config.as_ref().is_some_and(|file| file.tls.is_some())
}

/// Prints, where somebody reads standard output.
fn tell_user(text: &str) {
    let text = format!("{text}\n");
    // Writing waits for the reader, which must not hold up a thread of the runtime.
    tokio::task::spawn_blocking(move || io::stdout().write_all(text.as_bytes()));
}

fn address(text: &str) -> Result<ListenAddress, RunError> {
    text.parse().map_err(RunError::Address)
}

fn http_url(bound: &server::Bound) -> String {
    format!("http://{}", bound.addresses().first().map(ToString::to_string).unwrap_or_default())
}
