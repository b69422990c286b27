//! A configuration taken apart key by key, with everything that is wrong in it reported at once.
//!
//! A [`Document`] is parsed into a tree of values. [`Section`]s take it apart: each key is read by a parser of its own,
//! what is left over is an unknown key, and each [`Problem`] names its file or variable, its key, and what would be right.
//! No problem repeats a value, as any value may be a secret in the wrong place.

mod problem;
mod section;
mod tree;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use config::Value;
use jiff::{Span, SpanRelativeTo};
pub use problem::{Key, Problem, Problems, Report, Reported, Setting, is_visible};
pub use section::{Section, Taken, source, value_at};
pub use tree::of_yaml;

use crate::files;

/// The origin of values that flags give.
pub const COMMAND_LINE: &str = "the command line";

/// The origin of values that environment variables give, as the `config` crate names it.
pub const ENVIRONMENT: &str = "the environment";

/// A tree of values, each of which knows its origin.
#[derive(Default)]
pub struct Document {
    /// The values.
    pub root: Value,
    /// The configuration file. Where a value has no origin of its own, it comes from it.
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
        let root = of_yaml(&read_text(path)?, Some(path))?;
        Ok(Self { root, file: Some(path.to_owned()), environment_prefix: "" })
    }
}

/// A file in YAML, TOML or JSON, by its extension.
///
/// # Errors
/// When it can't be read or parsed. The problem names the line and quotes nothing of it.
pub fn read_file(path: &Path) -> Result<Value, Problem> {
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("yml" | "yaml") => of_yaml,
        Some("toml") => tree::of_toml,
        Some("json") => tree::of_json,
        _ => return Err(unreadable(path, "must end in .yml, .yaml, .toml or .json: the extension is its format")),
    };
    parse(&read_text(path)?, Some(path))
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let bytes = files::read(path).map_err(|error| Problem::unread(path.display(), "", &error))?;
    match String::from_utf8(bytes) {
        // Such as a file of which a crash has left the length alone. The parser would end at it.
        Ok(text) if text.contains('\0') => Err(unreadable(path, "holds a NUL character")),
        Ok(text) => Ok(text),
        Err(_) => Err(unreadable(path, "is not UTF-8")),
    }
}

fn unreadable(path: &Path, message: &str) -> Problem {
    Problem::new(path.display(), "", message)
}

/// Reads a duration above zero, such as `60s`, `5m`, `1h30m` or `7d`. A day has 24 hours, a week seven days.
///
/// # Errors
/// Says what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "must be a duration above zero with its unit, such as 60s, 5m, 1h30m or 7d";
    let span: Span = text.parse().map_err(|_| SHAPE)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| SHAPE)?;
    let duration = Duration::try_from(duration).map_err(|_| SHAPE)?;
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
    text.parse().map_err(|_| "must be true or false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(name: &str, text: &str) -> Problem {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_file(&path).unwrap_err()
    }

    #[test]
    fn file_that_cannot_be_parsed_is_named_by_line_without_quoting_it() {
        for (name, text, expected) in [
            ("a.toml", "token = \"hunter2", ":1: is not valid TOML: see column 17"),
            ("a.toml", "a = 1\nb = hunter2 x", ":2: is not valid TOML: see column 5"),
            ("a.yml", "a: 1\n b: hunter2: x", ":2: is not valid YAML: see column 3"),
            ("a.json", "{\"token\": hunter2}", ":1: is not valid JSON: see column 11"),
            ("a.yml", "hunter2", ":1: must be a map of keys"),
            ("a.yml", "token: {{ hunter2 }}", ":1: token: has a key that is no string"),
            ("a.yml", "a: 1\n---\nb: 2", ":2: holds more than one YAML document"),
            ("a.yml", "a: 1\n\0\0", ": holds a NUL character"),
            ("a.yml", "a: &a [*a]", ":1: a: contains an alias of itself"),
            ("a.yml", "a:\n  <<: [hunter2]", ":2: a: must merge (<<) a map or a list of maps"),
            ("a.yml", "a: 1\nb: 2\na: 3", ":3: has this key twice"),
            ("a.yml", &"[".repeat(40), ":1: has too many levels"),
        ] {
            let problem = parse_error(name, text).to_string();
            assert!(problem.ends_with(&format!("{name}{expected}")), "{problem}");
        }
    }
}
