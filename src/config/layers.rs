//! The layers of the configuration, laid over each other: file < environment < flags.
//!
//! (The defaults stand where each value is parsed.)

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat, Value, ValueKind};

use super::problem::{Problem, Problems};
use crate::files;

/// Where a configuration file is looked for when no flag names one.
pub(super) const DEFAULT_PATHS: [&str; 2] =
    ["config/koodrive-exporter.yml", "/etc/koodrive-exporter/koodrive-exporter.yml"];

/// Before the first `__` of each environment variable that is a setting. The double underscore keeps
/// variables that Kubernetes injects for a service (`KOODRIVE_EXPORTER_PORT`) from being taken for one.
pub(super) const ENVIRONMENT_PREFIX: &str = "KOODRIVE_EXPORTER";

/// The origin that values given by flags bear.
pub(super) const COMMAND_LINE: &str = "the command line";

/// What flags set: values that are laid over all others.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<(&'static str, ValueKind)>);

impl Overrides {
    /// Sets a key by its path, where there is a value for it.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Option<impl Into<ValueKind>>) -> Self {
        self.0.extend(value.map(|value| (key, value.into())));
        self
    }

    /// Whether a key is set.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(set, _)| *set == key)
    }
}

/// The configuration's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A file in YAML, TOML or JSON, by its extension.
    File(PathBuf),
    /// YAML that the program made itself.
    BuiltIn(String),
}

/// Everything that a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config.file`, or what was found at one of the default paths.
    pub document: Option<Document>,
    /// All environment variables; those without the prefix are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags.
    pub overrides: Overrides,
}

/// The layers as one tree of values, each of which knows its origin.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) root: Value,
    /// What a value without an origin of its own comes from.
    pub(super) file: Option<PathBuf>,
}

impl Merged {
    /// One YAML file alone, whatever its name ends in, and empty where it says nothing.
    pub(super) fn of_yaml(path: &Path) -> Result<Self, Problem> {
        let (text, file) = (read_text(path)?, Some(path.to_owned()));
        if text.lines().all(|line| line.is_empty() || line.starts_with('#')) {
            return Ok(Self { root: Value::from(HashMap::<String, Value>::new()), file });
        }
        let source = parse(path, &text, FileFormat::Yaml)?;
        let values = config::Source::collect(&source).map_err(|_| unreadable(path, "is no map of keys".to_owned()))?;
        Ok(Self { root: Value::from(values), file })
    }
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

    pub(super) fn merge(&self) -> Result<Merged, Problems> {
        let mut builder = config::Config::builder();
        builder = match &self.document {
            None => builder,
            Some(Document::File(path)) => {
                builder.add_source(read_file(path).map_err(|problem| Problems(vec![problem]))?)
            }
            Some(Document::BuiltIn(yaml)) => builder.add_source(File::from_str(yaml, FileFormat::Yaml)),
        };
        let environment = Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("__")
            .separator("__")
            .source(Some(self.settings_of_environment()?));
        builder = builder.add_source(environment);
        for (key, value) in &self.overrides.0 {
            let value = Value::new(Some(&COMMAND_LINE.to_owned()), value.clone());
            builder = builder.set_override(*key, value).map_err(|_| unlayered())?;
        }
        let merged = builder.build().map_err(|_| unlayered())?;
        Ok(Merged { root: merged.cache, file: self.file().map(Path::to_owned) })
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
                let message = "must be a path of keys joined by __".to_owned();
                problems.push(Problem { origin: origin(), key: String::new(), message });
            } else if let Some(value) = value.to_str() {
                settings.insert(name.to_owned(), value.to_owned());
            } else {
                problems.push(Problem { origin: origin(), key: String::new(), message: "is not UTF-8".to_owned() });
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }
}

fn read_file(path: &Path) -> Result<File<config::FileSourceString, FileFormat>, Problem> {
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("yml" | "yaml") => FileFormat::Yaml,
        Some("toml") => FileFormat::Toml,
        Some("json") => FileFormat::Json,
        _ => {
            return Err(unreadable(
                path,
                "must end in .yml, .yaml, .toml or .json, by which its format is told".to_owned(),
            ));
        }
    };
    parse(path, &read_text(path)?, format)
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let bytes = files::read(path).map_err(|error| unreadable(path, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| unreadable(path, "is not UTF-8".to_owned()))
}

fn parse(path: &Path, text: &str, format: FileFormat) -> Result<File<config::FileSourceString, FileFormat>, Problem> {
    let file = File::from_str(text, format);
    match config::Source::collect(&file) {
        Ok(_) => Ok(file),
        Err(error) => Err(unreadable(path, unparsed(format, &error.to_string()))),
    }
}

fn unreadable(path: &Path, message: String) -> Problem {
    Problem { origin: path.display().to_string(), key: String::new(), message }
}

/// Where a file can't be parsed. The parsers' own words are left out, as some of them quote the line,
/// in which a secret may stand.
fn unparsed(format: FileFormat, error: &str) -> String {
    let number_after = |word: &str| {
        let (_, rest) = error.split_once(word)?;
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then_some(digits)
    };
    match (number_after("line "), number_after("column ")) {
        (Some(line), Some(column)) => format!("is not valid {format:?}: see line {line}, column {column}"),
        _ => format!("is not valid {format:?}, or not a map of keys at its top"),
    }
}

/// Values are taken as they are, and the flags' keys are good: only a variable's name can be at fault.
fn unlayered() -> Problems {
    Problems::one("the environment", "", "has a variable whose name is no path of keys joined by `__`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(name: &str, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_file(&path).unwrap_err().message
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_told_by_line_without_quoting_it() {
        for (name, text, expected) in [
            ("a.toml", "token = \"hunter2", "is not valid Toml: see line 1, column 17"),
            ("a.yml", "a: 1\n b: hunter2: x", "is not valid Yaml: see line 2, column 3"),
            ("a.json", "{\"token\": hunter2}", "is not valid Json: see line 1, column 11"),
            ("a.yml", "hunter2", "is not valid Yaml, or not a map of keys at its top"),
            ("a.yml", "token: {{ hunter2 }}", "is not valid Yaml, or not a map of keys at its top"),
        ] {
            assert_eq!(parse_error(name, text), expected, "{text}");
        }
    }
}
