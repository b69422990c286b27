//! A configuration taken apart key by key, with everything that is wrong in it reported at once.
//!
//! A [`Document`] is parsed into a tree of values. [`Section`]s take it apart: each key is read by a parser of its own,
//! what is left over is an unknown key, and each [`Problem`] names its file or variable, its key, and what would be right.
//! No problem repeats a value, as any value may be a secret in the wrong place.

mod problem;
mod section;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use config::{File, FileFormat, FileSourceString, Value};
use jiff::SignedDuration;
pub use problem::{Key, Problem, Problems, Report, Reported};
pub use section::{Section, Taken};

use crate::files;

/// The origin of values that flags give.
pub const COMMAND_LINE: &str = "the command line";

/// A tree of values, each of which knows its origin.
#[derive(Debug)]
pub struct Document {
    /// The values.
    pub root: Value,
    /// What a value without an origin of its own comes from.
    pub file: Option<PathBuf>,
    /// What the names of environment variables begin with, where values come from there.
    pub environment_prefix: &'static str,
}

impl Document {
    /// One YAML file with any extension. A file without content is an empty document.
    ///
    /// # Errors
    /// When it can't be read, or is no map of keys.
    pub fn read_yaml(path: &Path) -> Result<Self, Problem> {
        let (text, file, environment_prefix) = (read_text(path)?, Some(path.to_owned()), "");
        if text.lines().all(|line| line.is_empty() || line.starts_with('#')) {
            return Ok(Self { root: Value::from(HashMap::<String, Value>::new()), file, environment_prefix });
        }
        let source = parse(path, &text, FileFormat::Yaml)?;
        let values = config::Source::collect(&source).map_err(|_| unreadable(path, "is no map of keys".to_owned()))?;
        Ok(Self { root: Value::from(values), file, environment_prefix })
    }
}

/// A file in YAML, TOML or JSON, by its extension, as a source of the `config` crate.
///
/// # Errors
/// When it can't be read or parsed. The problem names the line and quotes nothing of it.
pub fn read_file(path: &Path) -> Result<File<FileSourceString, FileFormat>, Problem> {
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

/// Reads a length of time above zero, such as `60s`, `5m` or `1h30m`.
///
/// # Errors
/// Says what a length of time looks like.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "must be a length of time above zero with its unit, such as 60s, 5m or 1h30m";
    let parsed: SignedDuration = text.parse().map_err(|_| SHAPE)?;
    let duration = Duration::try_from(parsed).map_err(|_| SHAPE)?;
    match duration.as_millis() {
        0 => Err(SHAPE),
        // Beyond any use, and far from where adding up lengths of time could overflow.
        millis if millis > 366 * 24 * 60 * 60 * 1000 => Err("must be at most a year"),
        _ => Ok(duration),
    }
}

/// Reads `true` or `false`.
///
/// # Errors
/// For anything else.
pub fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false"),
    }
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
