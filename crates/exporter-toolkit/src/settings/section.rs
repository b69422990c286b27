//! One table of the configuration, taken apart key by key; what is left over is an unknown key. A key may be the path of
//! one in a table below, such as `poll.interval`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    io,
    iter::successors,
    path::{Path, PathBuf},
};

use config::{Value, ValueKind};

use super::{
    COMMAND_LINE, Document, ENVIRONMENT,
    problem::{self, Key, Problem, Problems, Report, Reported, Setting},
};

/// A table of keys, which reports what is wrong in it.
pub struct Section<'a> {
    path: String,
    /// Where the table stands.
    origin: Option<String>,
    table: HashMap<String, Value>,
    /// The paths of the keys that were looked for.
    known: Vec<String>,
    document: &'a Document,
    report: &'a Report,
}

/// A value that is not of its type, as opposed to one that is not there.
pub type Taken<T> = Result<Option<T>, Reported>;

impl<'a> Section<'a> {
    /// The whole document. What is wrong is added to `report`.
    #[must_use]
    pub fn root(document: &'a Document, report: &'a Report) -> Self {
        let table = document.root.clone().into_table().unwrap_or_default();
        Self { path: String::new(), origin: None, table, known: Vec::new(), document, report }
    }

    /// The key's value, from whatever scalar the file has, read by `parse`.
    ///
    /// # Errors
    /// When it can't be taken, which has been reported.
    pub fn take<T, E: Display>(&mut self, key: &str, meaning: &str, parse: impl Fn(&str) -> Result<T, E>) -> Taken<T> {
        self.note(key, meaning, || refusal(&parse).unwrap_or_else(|| "a single value".to_owned()));
        let Some(value) = self.take_value(key) else { return Ok(None) };
        let text = match &value.kind {
            ValueKind::Table(_) | ValueKind::Array(_) => return Err(self.wrong(key, &value, "must be a single value")),
            scalar => scalar.to_string(),
        };
        parse(&text).map(Some).map_err(|error| self.wrong(key, &value, error))
    }

    /// As [`Self::take`], with a default that is written as the user would. Reports which of the two is used, as it is
    /// written.
    ///
    /// # Errors
    /// When it can't be taken, which has been reported.
    pub fn take_or<T, E: Display>(
        &mut self,
        key: &str,
        default: &str,
        meaning: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Reported> {
        let taken = self.take(key, meaning, &parse);
        self.show(key, self.text(key).as_deref().unwrap_or(default));
        taken?.map_or_else(|| parse(default).map_err(|error| self.problem(key, error.to_string())), Ok)
    }

    /// Reports the value that is used for a key.
    pub fn show(&self, key: &str, value: &str) {
        let (key, origin) = (self.key_path(key), source(self.given(key)));
        self.report.show(Setting { key, value: value.to_owned(), origin });
    }

    /// The key's value where it must be a string: a number would have lost its leading zeros or its
    /// last digits.
    ///
    /// # Errors
    /// When it can't be taken, which has been reported.
    pub fn take_string<T, E: Display>(
        &mut self,
        key: &str,
        meaning: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Taken<T> {
        self.note(key, meaning, || refusal(&parse).unwrap_or_else(|| "a string".to_owned()));
        let Some(value) = self.take_value(key) else { return Ok(None) };
        match &value.kind {
            ValueKind::String(text) => parse(text).map(Some).map_err(|error| self.wrong(key, &value, error)),
            _ => Err(self.wrong(key, &value, "must be a string: put it in quotes")),
        }
    }

    /// The path of a file, where it is not empty; a relative one is relative to the configuration file it stands in.
    ///
    /// # Errors
    /// When it can't be taken, which has been reported.
    pub fn take_path(&mut self, key: &str, meaning: &str) -> Taken<PathBuf> {
        let origin = self.given(key).and_then(Value::origin);
        let in_file = origin.is_none_or(|origin| ![COMMAND_LINE, ENVIRONMENT].contains(&origin));
        let folder = self.document.file.as_deref().and_then(Path::parent).filter(|_| in_file).unwrap_or(Path::new(""));
        let folder = folder.to_owned();
        let path = self.take_string(key, meaning, |text| match text {
            "" => Ok(None),
            text if text.contains(char::is_control) || text.contains("-----BEGIN") => {
                Err("must be a path, and looks like a secret or a certificate")
            }
            text => Ok(Some(folder.join(text))),
        });
        path.map(Option::flatten)
    }

    /// The key's values: a list, or a string with commas, as an environment variable gives it.
    ///
    /// # Errors
    /// When it can't be taken, which has been reported.
    pub fn take_list<T, E: Display>(
        &mut self,
        key: &str,
        meaning: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Taken<Vec<T>> {
        self.note(key, meaning, || {
            refusal(&parse).map_or_else(|| "a list".to_owned(), |each| format!("a list, each of it {each}"))
        });
        let Some(value) = self.take_value(key) else { return Ok(None) };
        let texts: Vec<String> = match &value.kind {
            ValueKind::Array(items) => items.iter().map(|item| item.kind.to_string()).collect(),
            ValueKind::Table(_) => return Err(self.wrong(key, &value, "must be a list")),
            scalar => scalar.to_string().split(',').map(|text| text.trim().to_owned()).collect(),
        };
        let parsed: Result<Vec<T>, E> = texts.iter().map(|text| parse(text)).collect();
        parsed.map(Some).map_err(|error| self.wrong(key, &value, error))
    }

    /// What each entry below the key makes, whatever the entries' names are.
    ///
    /// # Errors
    /// When it can't be taken, which has been reported.
    pub fn take_map<T, E: Display>(
        &mut self,
        key: &str,
        meaning: &str,
        parse: impl Fn(&str, &str) -> Result<T, E>,
    ) -> Taken<Vec<T>> {
        self.note(key, meaning, || "a map of names and values".to_owned());
        let Some(value) = self.take_value(key) else { return Ok(None) };
        let entries: BTreeMap<_, _> = self.table_of(key, &value).into_iter().flatten().collect();
        let parsed = entries.iter().map(|(name, value)| match &value.kind {
            ValueKind::Table(_) | ValueKind::Array(_) => Err(self.wrong(key, value, "must be a map of single values")),
            scalar => parse(name, &scalar.to_string()).map_err(|error| self.wrong(key, value, error)),
        });
        // All are parsed, so that all problems are reported.
        let parsed: Vec<_> = parsed.collect();
        parsed.into_iter().collect::<Result<_, _>>().map(Some)
    }

    /// The table below the key; an empty one where there is none.
    #[must_use]
    pub fn section(&mut self, key: &str) -> Section<'a> {
        let value = self.take_value(key).unwrap_or_default();
        self.below(key, &value)
    }

    /// The tables below the key, by their names, in the names' order.
    #[must_use]
    pub fn sections(&mut self, key: &str) -> Vec<(String, Section<'a>)> {
        let map = self.section(key);
        let tables: BTreeMap<_, _> = map.table.iter().collect();
        tables.into_iter().map(|(name, value)| (name.clone(), map.below(name, value))).collect()
    }

    fn table_of<'v>(&self, key: &str, value: &'v Value) -> Option<&'v HashMap<String, Value>> {
        match &value.kind {
            ValueKind::Table(table) => return Some(table),
            ValueKind::Nil => {}
            _ => drop(self.wrong(key, value, "must be a map of keys")),
        }
        None
    }

    fn below(&self, key: &str, value: &Value) -> Section<'a> {
        let origin = first_origin(value).map(str::to_owned).or_else(|| self.origin.clone());
        let table = self.table_of(key, value).cloned().unwrap_or_default();
        let (path, document, report) = (self.key_path(key), self.document, self.report);
        Section { path, origin, table, known: Vec::new(), document, report }
    }

    /// Whether the user wrote this key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.given(key).is_some()
    }

    /// What the user wrote for this key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.given(key).map(|value| value.kind.to_string())
    }

    fn given(&self, key: &str) -> Option<&Value> {
        self.at(key).filter(|value| value.kind != ValueKind::Nil)
    }

    fn at(&self, key: &str) -> Option<&Value> {
        let mut keys = key.split('.');
        value_at(self.table.get(keys.next()?)?, keys)
    }

    /// These keys are known, though nothing takes them.
    pub fn knows(&mut self, keys: &[&str]) {
        self.known.extend(keys.iter().map(ToString::to_string));
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Reports what is wrong in a file that this one names.
    #[must_use]
    pub fn problems(&self, problems: Problems) -> Reported {
        self.report.extend(problems)
    }

    /// Reports a problem with a key, or its absence.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Reported {
        self.report.add(Problem::new(self.origin_of(key), &self.key_path(key), message))
    }

    /// Reports that the file which a key names can't be read.
    #[must_use]
    pub fn unread(&self, key: &str, error: &io::Error) -> Reported {
        self.report.add(Problem::unread(self.origin_of(key), &self.key_path(key), error))
    }

    /// Where the key stands, or else the table that it belongs into.
    fn origin_of(&self, key: &str) -> String {
        let mut above = successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
        let origin = above.find_map(|key| first_origin(self.at(key)?));
        self.origin(key, origin.or(self.origin.as_deref()))
    }

    /// Reports every key that nobody took. What does not look like a key, and beside a secret what has no value, is not
    /// repeated: without the space after its colon, `token:secret` is a key.
    pub fn finish(&self) {
        self.report_unknown("", &self.table);
    }

    fn report_unknown(&self, above: &str, table: &HashMap<String, Value>) {
        let mut here: Vec<&str> = Vec::new();
        for path in self.known.iter().filter_map(|known| problem::below(above, known)) {
            let key = path.split('.').next().unwrap_or(path);
            if !here.contains(&key) {
                here.push(key);
            }
        }
        let known = here.join(", ");
        let beside_secret = self.key_path(above).rsplit('.').next() == Some("auth");
        for (key, value) in table {
            let path = problem::join(above, key);
            let presentable = key.len() <= 32 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if here.contains(&key.as_str()) {
                let is_table = !self.known.contains(&path);
                if let Some(table) = is_table.then(|| self.table_of(&path, value)).flatten() {
                    self.report_unknown(&path, table);
                }
            } else if presentable && (!beside_secret || value.kind != ValueKind::Nil) {
                self.wrong(&path, value, format!("is not a known key; known here: {known}"));
            } else {
                self.wrong(above, value, format!("has an unknown key; known here: {known}"));
            }
        }
    }

    fn note(&self, key: &str, meaning: &str, values: impl FnOnce() -> String) {
        self.report.note(|| Key { path: self.key_path(key), values: values(), meaning: meaning.to_owned() });
    }

    fn take_value(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.given(key).cloned()
    }

    fn wrong(&self, key: &str, value: &Value, message: impl Display) -> Reported {
        self.report.add(Problem::new(self.origin(key, first_origin(value)), &self.key_path(key), message.to_string()))
    }

    fn origin(&self, key: &str, origin: Option<&str>) -> String {
        match (origin, &self.document.file) {
            (Some(COMMAND_LINE), _) => COMMAND_LINE.to_owned(),
            (Some(ENVIRONMENT), _) => {
                let name = self.key_path(key).to_uppercase().replace('.', "__");
                format!("environment variable {}__{name}", self.document.environment_prefix)
            }
            (Some(line), _) => line.to_owned(),
            (None, Some(file)) => file.display().to_string(),
            (None, None) => "no configuration file".to_owned(),
        }
    }

    fn key_path(&self, key: &str) -> String {
        problem::join(&self.path, key)
    }
}

/// The value that these keys lead to from another one, each below the one before.
pub fn value_at<'v, 'k>(value: &'v Value, mut keys: impl Iterator<Item = &'k str>) -> Option<&'v Value> {
    keys.try_fold(value, |value, key| match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    })
}

/// Where a value comes from, in a word or two.
#[must_use]
pub fn source(value: Option<&Value>) -> String {
    match value.map(Value::origin) {
        None => "default".to_owned(),
        Some(Some(COMMAND_LINE)) => "flag".to_owned(),
        Some(Some(ENVIRONMENT)) => "environment".to_owned(),
        Some(Some(line)) => format!("file {line}"),
        Some(None) => "built in".to_owned(),
    }
}

/// Where a value stands: `config` forgets it of a table, which then stands where the first of its values does.
fn first_origin(value: &Value) -> Option<&str> {
    let below = || match &value.kind {
        ValueKind::Table(table) => {
            table.values().filter_map(first_origin).min_by_key(|origin| problem::file_and_line(origin))
        }
        _ => None,
    };
    value.origin().or_else(below)
}

/// What a parser takes, in the words in which it refuses what none takes.
fn refusal<T, E: Display>(parse: impl Fn(&str) -> Result<T, E>) -> Option<String> {
    let refusal = parse("\0").err()?.to_string();
    let taken = refusal.strip_prefix("must be ")?;
    Some(taken.split(", and ").next().unwrap_or(taken).to_owned())
}
