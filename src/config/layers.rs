//! The layers of the configuration, laid over each other: file < environment < flags.
//!
//! (The defaults stand where each value is parsed.)

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use config::{Environment, Value, ValueKind};
use exporter_toolkit::{
    files,
    settings::{self, COMMAND_LINE, Problem, Problems},
};

use super::proxy::EnvironmentProxy;

/// Where a configuration file is looked for when no flag names one.
pub(super) const DEFAULT_PATHS: [&str; 2] =
    ["config/koodrive-exporter.yml", "/etc/koodrive-exporter/koodrive-exporter.yml"];

/// Before the first `__` of each environment variable that is a setting. The double underscore keeps
/// variables that Kubernetes injects for a service (`KOODRIVE_EXPORTER_PORT`) from being taken for one.
pub(super) const ENVIRONMENT_PREFIX: &str = "KOODRIVE_EXPORTER";

/// What flags set: values that are laid over all others.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<(String, ValueKind)>);

impl Overrides {
    /// Sets a key by its path, where there is a value for it.
    #[must_use]
    pub fn with(mut self, key: &str, value: Option<impl Into<ValueKind>>) -> Self {
        self.0.extend(value.map(|value| (key.to_owned(), value.into())));
        self
    }

    /// Whether a key is set.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(set, _)| set == key)
    }
}

/// The configuration's document. It has no `Debug`: there are secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Document {
    /// A file in YAML, TOML or JSON, by its extension.
    File(PathBuf),
    /// YAML that the program made itself.
    BuiltIn(String),
}

/// Everything that a configuration is made from. It has no `Debug`: there are secrets in it.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config.file`, or what was found at one of the default paths.
    pub document: Option<Document>,
    /// All environment variables; those without the prefix are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags.
    pub overrides: Overrides,
}

impl Sources {
    /// The process's own: `file`, or the first of the default paths that exists, and its environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, overrides: Overrides) -> Self {
        let file = file.or_else(|| DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists()));
        Self { document: file.map(Document::File), environment: std::env::vars_os().collect(), overrides }
    }

    /// The file, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.document {
            Some(Document::File(path)) => Some(path),
            _ => None,
        }
    }

    /// What the file holds, where there is one and it can be read.
    #[must_use]
    pub fn file_content(&self) -> Option<Vec<u8>> {
        files::read(self.file()?).ok()
    }

    /// The forward proxy that the environment names.
    pub(super) fn proxy(&self) -> Result<EnvironmentProxy, Problems> {
        EnvironmentProxy::read(&self.environment).map_err(|problem| Problems(vec![problem]))
    }

    pub(super) fn merge(&self) -> Result<settings::Document, Problems> {
        let mut builder = config::Config::builder();
        let tree = match &self.document {
            None => None,
            Some(Document::File(path)) => Some(settings::read_file(path)),
            Some(Document::BuiltIn(yaml)) => Some(settings::of_yaml(yaml, None)),
        };
        if let Some(tree) = tree {
            // Without the file there is nothing to wait for: accounts that were asked for would be missing.
            let tree = tree.map_err(|problem| Problems(vec![Problem { may_pass: false, ..problem }]))?;
            let mut source = config::Config::default();
            source.cache = tree;
            builder = builder.add_source(source);
        }
        let environment = Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("__")
            .separator("__")
            // As compose files make them of variables that are not set.
            .ignore_empty(true)
            .source(Some(self.settings_of_environment()?));
        builder = builder.add_source(environment);
        for (key, value) in &self.overrides.0 {
            let value = Value::new(Some(&COMMAND_LINE.to_owned()), value.clone());
            builder = builder.set_override(key, value).map_err(|_| unlayered())?;
        }
        let merged = builder.build().map_err(|_| unlayered())?;
        let (root, file) = (merged.cache, self.file().map(Path::to_owned));
        Ok(settings::Document { root, file, environment_prefix: ENVIRONMENT_PREFIX })
    }

    fn settings_of_environment(&self) -> Result<HashMap<String, String>, Problems> {
        let prefix = format!("{ENVIRONMENT_PREFIX}__");
        let mut settings = HashMap::new();
        let mut problems = Vec::new();
        for (name, value) in &self.environment {
            let Some(name) = name.to_str() else { continue };
            if !name.to_uppercase().starts_with(&prefix) {
                continue;
            }
            let origin = || format!("environment variable {name}");
            if name.contains(['[', ']', '.']) {
                problems.push(Problem::new(origin(), "", "must be a path of keys joined by __"));
            } else if let Some(value) = value.to_str() {
                settings.insert(name.to_owned(), value.to_owned());
            } else {
                problems.push(Problem::new(origin(), "", "is not UTF-8"));
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }
}

/// Values are taken as they are, and the flags' keys are good: only a variable's name can be at fault.
fn unlayered() -> Problems {
    Problems::one("the environment", "", "has a variable with an invalid name: join keys by `__`")
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::config::{Config, LogFormat};

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_document() {
        let variables = [
            ("KOODRIVE_EXPORTER__LOG__LEVEL", "warn"),
            ("KOODRIVE_EXPORTER__LOG__FORMAT", "json"),
            ("KOODRIVE_EXPORTER__ACCOUNTS__B__USER_ID", "007"),
            ("KOODRIVE_EXPORTER__ACCOUNTS__B__AUTH__TYPE", "token"),
            ("KOODRIVE_EXPORTER__ACCOUNTS__B__AUTH__TOKEN", "t"),
            ("KOODRIVE_EXPORTER_PORT", "tcp://192.0.2.1:10710"),
            ("HOME", "/"),
        ];
        let yaml = "log: { level: error, format: logfmt }\naccounts: { a: { user_id: \"1\", auth: { type: token, token: t } } }";
        let sources = Sources {
            document: Some(Document::BuiltIn(yaml.to_owned())),
            environment: variables.map(|(name, value)| (name.into(), value.into())).to_vec(),
            overrides: Overrides::default().with("log.level", Some("debug")).with("log.format", None::<String>),
        };
        assert!(sources.overrides.has("log.level") && !sources.overrides.has("log.format"));
        let (config, settings) = Config::explain(&sources).unwrap();
        assert_eq!((config.log.level, config.log.format), (Level::DEBUG, LogFormat::Json));
        assert_eq!(config.accounts.iter().map(|account| account.alias.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.accounts[1].api.user_id.as_str(), "007");
        let origin = |key: &str| settings.iter().find(|setting| setting.key == key).unwrap().origin.as_str();
        assert_eq!(origin("log.level"), "flag");
        assert_eq!(origin("log.format"), "environment");
        assert_eq!(origin("accounts.a.user_id"), "built in");
        assert_eq!(origin("accounts.b.poll.interval"), "default");
        for bad in ["KOODRIVE_EXPORTER__A[0]", "KOODRIVE_EXPORTER__A.B"] {
            let environment = vec![(bad.into(), "x".into())];
            let problems = Config::load(&Sources { environment, ..sources.clone() }).unwrap_err().to_string();
            assert_eq!(problems, format!("environment variable {bad}: must be a path of keys joined by __"));
        }
    }
}
