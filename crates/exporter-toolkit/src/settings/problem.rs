//! What is wrong with a configuration: all of it, each with its place.

use std::{cell::RefCell, fmt, io};

/// One thing that is wrong: where it is, what it is, and what would be right. It never repeats a value,
/// as any value may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, the environment variable or the flag.
    pub origin: String,
    /// The path of the key, such as `accounts.production.user_id`; empty for a whole file.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Whether it may pass by itself, as a file that is not there yet.
    pub may_pass: bool,
}

impl Problem {
    /// One that does not pass by itself.
    #[must_use]
    pub fn new(origin: impl fmt::Display, key: &str, message: impl Into<String>) -> Self {
        Self { origin: origin.to_string(), key: key.to_owned(), message: message.into(), may_pass: false }
    }

    /// A file that can't be read, and that may be there later if it is missing.
    #[must_use]
    pub fn unread(origin: impl fmt::Display, key: &str, error: &io::Error) -> Self {
        let may_pass = error.kind() == io::ErrorKind::NotFound;
        Self { may_pass, ..Self::new(origin, key, format!("cannot be read: {error}")) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        let key: String = self.key.chars().map(|char| if is_visible(char) { char } else { '\u{FFFD}' }).collect();
        write!(f, "{}: {key}{separator}{}", self.origin, self.message)
    }
}

/// Whether a character shows itself and changes neither the line nor the direction of the text around it.
#[must_use]
pub fn is_visible(char: char) -> bool {
    let is_mark = matches!(char,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}');
    !char.is_control() && !is_mark
}

/// The path of a key below another one; an empty part adds nothing.
pub(super) fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.to_owned(),
        (path, "") => path.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

/// The rest of a key's path below a table's, if it is there.
pub(super) fn below<'k>(table: &str, key: &'k str) -> Option<&'k str> {
    if table.is_empty() { Some(key) } else { key.strip_prefix(table)?.strip_prefix('.') }
}

/// The parts of an origin such as `k.yml:7`, in the order of lines; one without a line stands first.
pub(super) fn file_and_line(origin: &str) -> (&str, u32) {
    let parts = origin.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
    parts.unwrap_or((origin, 0))
}

/// Everything that is wrong, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One problem alone.
    #[must_use]
    pub fn one(origin: impl fmt::Display, key: &str, message: impl Into<String>) -> Self {
        Self(vec![Problem::new(origin, key, message)])
    }

    /// Whether they may all pass by themselves, so that it is worth while to try again later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.0.iter().all(|problem| problem.may_pass)
    }
}

/// Says that a problem has been put into the [`Report`].
#[derive(Debug, Clone, Copy)]
pub struct Reported(());

/// Gathers problems and the values that are used while the configuration is read, and for the reference what is said of
/// its keys.
#[derive(Debug, Default)]
pub struct Report {
    problems: RefCell<Vec<Problem>>,
    settings: RefCell<Vec<Setting>>,
    keys: Option<RefCell<Vec<Key>>>,
}

/// A value that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The path of its key.
    pub key: String,
    /// The value, for people; a secret shows nothing of itself.
    pub value: String,
    /// The file, the environment, a flag, or the default.
    pub origin: String,
}

/// A key that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its path, such as `poll.interval`.
    pub path: String,
    /// What its value may be, in the words in which any other is refused.
    pub values: String,
    /// What it is for.
    pub meaning: String,
}

impl Report {
    /// Adds one problem.
    pub fn add(&self, problem: Problem) -> Reported {
        self.problems.borrow_mut().push(problem);
        Reported(())
    }

    /// Adds problems.
    pub fn extend(&self, problems: Problems) -> Reported {
        self.problems.borrow_mut().extend(problems.0);
        Reported(())
    }

    /// Adds a value that is used.
    pub fn show(&self, setting: Setting) {
        self.settings.borrow_mut().push(setting);
    }

    /// The values that are used, in the order in which they were added.
    pub fn take_settings(&self) -> Vec<Setting> {
        self.settings.take()
    }

    /// What was read, if nothing is wrong with it.
    ///
    /// # Errors
    /// All problems, in the order of their lines.
    pub fn conclude<T>(self, read: Result<T, Reported>) -> Result<T, Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| (file_and_line(&a.origin), a).cmp(&(file_and_line(&b.origin), b)));
        problems.dedup();
        match read {
            Ok(read) if problems.is_empty() => Ok(read),
            _ => Err(Problems(problems)),
        }
    }

    /// A report that notes the keys that are looked for, too.
    #[must_use]
    pub fn of_keys() -> Self {
        Self { keys: Some(RefCell::default()), ..Self::default() }
    }

    /// Notes a key, where that is wanted.
    pub fn note(&self, key: impl FnOnce() -> Key) {
        if let Some(keys) = &self.keys {
            keys.borrow_mut().push(key());
        }
    }

    /// The keys that were looked for, in that order.
    pub fn into_keys(self) -> Vec<Key> {
        self.keys.map(RefCell::into_inner).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_a_line_each() {
        let problem = |key: &str| Problem::new("f", key, "is bad");
        assert_eq!(
            Problems(vec![problem("k"), problem(""), problem("l")]).to_string(),
            "f: k: is bad\nf: is bad\nf: l: is bad"
        );
    }
}
