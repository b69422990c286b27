//! Where a running exporter can be asked, by its configuration: what is wrong in other keys does not matter.

use exporter_toolkit::{
    ListenAddress,
    settings::{Problems, Report, Section},
};

use super::{
    layers::Sources,
    web::{self, Web},
};

/// Where an exporter listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// At least one.
    pub addresses: Vec<ListenAddress>,
    /// What the paths of requests begin with.
    pub prefix: String,
    /// Whether it is by TLS; `None` where the web configuration file can't be read.
    pub tls: Option<bool>,
}

impl Listening {
    /// Reads the keys below `web` alone.
    ///
    /// # Errors
    /// When the file can't be read, or one of these keys is wrong.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let (web, tls) = match load(sources) {
            Ok(web) => {
                let tls = web.options.web_config.as_ref().is_some_and(|file| file.tls.is_some());
                (web, Some(tls))
            }
            Err(problems) if problems.0.iter().any(|problem| problem.key.starts_with("web")) => return Err(problems),
            Err(problems) => {
                let sources = sources.clone();
                let without_file = sources.overrides.clone().with("web.config_file", Some(""));
                let web = load(&Sources { overrides: without_file, ..sources });
                (web.map_err(|_| problems)?, None)
            }
        };
        Ok(Self { addresses: web.options.listen_addresses, prefix: web.options.paths.prefix, tls })
    }
}

fn load(sources: &Sources) -> Result<Web, Problems> {
    let (merged, report) = (sources.merge()?, Report::default());
    let web = web::web(Section::root(&merged, &report).section("web"));
    report.conclude(web)
}
