//! Configuration files as trees of values, each of which knows its file and line.

use std::{collections::HashMap, path::Path, str::Chars};

use config::{Value, ValueKind};
use serde::de::IgnoredAny;
use toml::de::{DeTable, DeValue};
use yaml_rust2::{
    Event, Yaml,
    parser::{Parser, Tag},
    scanner::TScalarStyle,
};

use super::problem::{Problem, join};

/// No configuration has more levels.
const MAX_DEPTH: usize = 32;

/// What all aliases of a file together may copy: ten thousand accounts with twenty values each.
const MAX_COPIED_VALUES: usize = 200_000;

/// Keys that begin so hold anchors for the rest of a YAML file, and nothing else (as in Compose files).
const HOLDER_PREFIX: &str = "x-";

/// The keys and values of a YAML text. One without content has none. Without a path, values have no origin.
///
/// # Errors
/// Where it is no map of keys, with the line.
pub fn of_yaml(text: &str, path: Option<&Path>) -> Result<Value, Problem> {
    read(text, &Place { path, format: "YAML", lines: Vec::new() })
}

fn read(yaml: &str, place: &Place<'_>) -> Result<Value, Problem> {
    let mut reader = YamlReader { place, parser: Parser::new_from_str(yaml), anchors: HashMap::new(), copied: 0 };
    let mut root = reader.document()?;
    root.retain(|key, _| !key.starts_with(HOLDER_PREFIX));
    Ok(root.into())
}

/// Those of a JSON text.
pub(super) fn of_json(text: &str, path: Option<&Path>) -> Result<Value, Problem> {
    let place = Place { path, format: "JSON", lines: Vec::new() };
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| place.invalid(error.line(), error.column()))?;
    // What is JSON is YAML, too, but for these escapes.
    read(&without_surrogates(text), &place)
}

/// Those of a TOML text.
pub(super) fn of_toml(text: &str, path: Option<&Path>) -> Result<Value, Problem> {
    let lines = text.match_indices('\n').map(|(index, _)| index).collect();
    let place = Place { path, format: "TOML", lines };
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = place.line_of(start);
        let line_start = line.checked_sub(2).and_then(|index| place.lines.get(index)).map_or(0, |end| end + 1);
        place.invalid(line, start.saturating_sub(line_start) + 1)
    })?;
    Ok(toml_table(table.into_inner(), &place).into())
}

/// A file, and where its lines end.
struct Place<'a> {
    path: Option<&'a Path>,
    format: &'static str,
    lines: Vec<usize>,
}

impl Place<'_> {
    fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|end| *end < offset) + 1
    }

    fn origin(&self, line: usize) -> Option<String> {
        self.path.map(|path| format!("{}:{line}", path.display()))
    }

    fn value(&self, line: usize, kind: impl Into<ValueKind>) -> Value {
        Value::new(self.origin(line).as_ref(), kind)
    }

    /// No problem quotes the text: a secret may stand in it.
    fn problem(&self, line: usize, key: &str, message: &str) -> Problem {
        Problem::new(self.origin(line).as_deref().unwrap_or("no configuration file"), key, message)
    }

    fn invalid(&self, line: usize, column: usize) -> Problem {
        self.problem(line, "", &format!("is not valid {}: see column {column}", self.format))
    }
}

/// JSON whose pairs of escapes (`\ud83d\ude00`), each for one character, are that character: YAML has no such pairs.
fn without_surrogates(json: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(json.len()), json);
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        text.push_str(before);
        let unit = |at: usize| u16::from_str_radix(escape.get(at..at + 6)?.strip_prefix("\\u")?, 16).ok();
        let pair = unit(0).zip(unit(6)).and_then(|(high, low)| String::from_utf16(&[high, low]).ok());
        let char = pair.filter(|pair| pair.chars().count() == 1);
        // Any other escape is not looked into, as that of a backslash.
        let (length, char) = char.as_deref().map_or((2, escape.get(..2).unwrap_or(escape)), |char| (12, char));
        text.push_str(char);
        rest = escape.get(length..).unwrap_or_default();
    }
    text + rest
}

/// Builds the values from the parser's events. Only strings are keys, and what aliases copy is bounded.
struct YamlReader<'a> {
    place: &'a Place<'a>,
    parser: Parser<Chars<'a>>,
    anchors: HashMap<usize, Value>,
    copied: usize,
}

impl YamlReader<'_> {
    fn document(&mut self) -> Result<HashMap<String, Value>, Problem> {
        let mut root = HashMap::new();
        let mut documents = 0;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart, line) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(self.place.problem(line, "", "holds more than one YAML document"));
                    }
                    let (event, line) = self.next()?;
                    root = match self.value(event, line, "", 0)?.kind {
                        ValueKind::Table(table) => table,
                        ValueKind::Nil => HashMap::new(),
                        _ => return Err(self.place.problem(line, "", "must be a map of keys")),
                    };
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event, usize), Problem> {
        match self.parser.next_token() {
            Ok((event, mark)) => Ok((event, mark.line())),
            Err(error) => Err(self.place.invalid(error.marker().line(), error.marker().col() + 1)),
        }
    }

    /// The value that begins with this event.
    fn value(&mut self, event: Event, line: usize, path: &str, depth: usize) -> Result<Value, Problem> {
        if depth > MAX_DEPTH {
            return Err(self.place.problem(line, path, "has too many levels"));
        }
        let (anchor, kind) = match event {
            Event::Alias(anchor) => return self.copy(anchor, line, path),
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(text, style, tag.as_ref())),
            Event::SequenceStart(anchor, _) => (anchor, ValueKind::Array(self.sequence(path, depth)?)),
            Event::MappingStart(anchor, _) => (anchor, ValueKind::Table(self.mapping(path, depth)?)),
            _ => (0, ValueKind::Nil),
        };
        let value = self.place.value(line, kind);
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn copy(&mut self, anchor: usize, line: usize, path: &str) -> Result<Value, Problem> {
        let Some(value) = self.anchors.get(&anchor) else {
            return Err(self.place.problem(line, path, "contains an alias of itself"));
        };
        self.copied += size(value);
        if self.copied > MAX_COPIED_VALUES {
            let message = format!("is too large once its aliases are expanded: at most {MAX_COPIED_VALUES} values");
            return Err(self.place.problem(line, path, &message));
        }
        Ok(value.clone())
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<Vec<Value>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, line) => items.push(self.value(event, line, path, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<HashMap<String, Value>, Problem> {
        let (mut table, mut merged) = (HashMap::new(), Vec::new());
        loop {
            let (key, line, is_merge) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, TScalarStyle::Plain, ..), line) if key == "<<" => (key, line, true),
                (Event::Scalar(key, style, _, tag), line) => {
                    if !matches!(scalar(key.clone(), style, tag.as_ref()), ValueKind::String(_)) {
                        let message = "must be a string: put it in quotes";
                        return Err(self.place.problem(line, &key_path(path, &key), message));
                    }
                    (key, line, false)
                }
                (_, line) => return Err(self.place.problem(line, path, "has a key that is no string")),
            };
            let (event, value_line) = self.next()?;
            let value = self.value(event, value_line, &key_path(path, &key), depth + 1)?;
            if is_merge {
                merged.extend(self.tables(value, line, path)?);
                continue;
            }
            // Where its key stands, though the anchor that it copies or its first line stands elsewhere.
            if table.insert(key, self.place.value(line, value.kind)).is_some() {
                return Err(self.place.problem(line, path, "has this key twice"));
            }
        }
        for (key, value) in merged.into_iter().flatten() {
            table.entry(key).or_insert(value);
        }
        Ok(table)
    }

    /// What a merge key (`<<`) names: a map or a list of maps, of which the first wins.
    fn tables(&self, value: Value, line: usize, path: &str) -> Result<Vec<HashMap<String, Value>>, Problem> {
        let values = match value.kind {
            ValueKind::Array(values) => values,
            _ => vec![value],
        };
        let tables = values.into_iter().map(|value| match value.kind {
            ValueKind::Table(table) => Ok(table),
            _ => Err(self.place.problem(line, path, "must merge (<<) a map or a list of maps")),
        });
        tables.collect()
    }
}

/// How many values a value consists of.
fn size(value: &Value) -> usize {
    match &value.kind {
        ValueKind::Table(table) => 1 + table.values().map(size).sum::<usize>(),
        ValueKind::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// A scalar by the core schema of YAML 1.2, which reads what has neither quotes nor a tag.
fn scalar(text: String, style: TScalarStyle, tag: Option<&Tag>) -> ValueKind {
    if style != TScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str") {
        return ValueKind::String(text);
    }
    match Yaml::from_str(&text) {
        Yaml::Null => ValueKind::Nil,
        Yaml::Boolean(boolean) => ValueKind::Boolean(boolean),
        Yaml::Integer(integer) => ValueKind::I64(integer),
        Yaml::Real(real) => real.parse().map_or(ValueKind::String(text), ValueKind::Float),
        _ => ValueKind::String(text),
    }
}

/// Only what looks like a key or a number is repeated: anything else may be a secret in the wrong place.
fn key_path(path: &str, key: &str) -> String {
    let presentable =
        key.len() <= 32 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-+".contains(&byte));
    join(path, if presentable { key } else { "" })
}

fn toml_table(table: DeTable<'_>, place: &Place<'_>) -> HashMap<String, Value> {
    let entries = table.into_iter().map(|(key, value)| {
        let line = place.line_of(key.span().start);
        (key.into_inner().into_owned(), place.value(line, toml_value(value.into_inner(), place)))
    });
    entries.collect()
}

fn toml_value(value: DeValue<'_>, place: &Place<'_>) -> ValueKind {
    match value {
        DeValue::Boolean(boolean) => ValueKind::Boolean(boolean),
        DeValue::Table(table) => ValueKind::Table(toml_table(table, place)),
        DeValue::Array(items) => {
            let item = |item: toml::Spanned<DeValue<'_>>| {
                let line = place.line_of(item.span().start);
                place.value(line, toml_value(item.into_inner(), place))
            };
            ValueKind::Array(items.into_iter().map(item).collect())
        }
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => ValueKind::I64(integer),
            Err(_) => ValueKind::String(integer.as_str().to_owned()),
        },
        DeValue::Float(float) => {
            float.as_str().parse().map_or_else(|_| ValueKind::String(float.as_str().to_owned()), ValueKind::Float)
        }
        DeValue::String(text) => ValueKind::String(text.into_owned()),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Result<Value, String> {
        of_yaml(text, Some(Path::new("f.yml"))).map_err(|problem| problem.to_string())
    }

    /// The value at this path, and where it stands.
    fn at(root: &Value, path: &[&str]) -> (String, String) {
        let value = path.iter().fold(root, |value, key| match &value.kind {
            ValueKind::Table(table) => &table[*key],
            _ => panic!("{key} is below no table"),
        });
        (value.kind.to_string(), value.origin().unwrap_or_default().to_owned())
    }

    fn stands(value: &str, origin: &str) -> (String, String) {
        (value.to_owned(), origin.to_owned())
    }

    #[test]
    fn merge_keys_give_what_is_not_written_and_anchor_holders_are_no_keys() {
        let text = "x-all: &all\n  language: zh-CN\n  poll: { interval: 5m }\nx-other: &other { language: a, units: b }\n\
                    one:\n  <<: *all\n  language: en-US\ntwo: { <<: [*all, *other] }\n";
        let tree = yaml(text).unwrap();
        assert_eq!(at(&tree, &["one", "language"]), stands("en-US", "f.yml:7"));
        assert_eq!(at(&tree, &["one", "poll", "interval"]), stands("5m", "f.yml:3"));
        assert_eq!(at(&tree, &["two", "language"]), stands("zh-CN", "f.yml:2"));
        assert_eq!(at(&tree, &["two", "units"]), stands("b", "f.yml:4"));
        assert_eq!(tree.into_table().unwrap().len(), 2);
    }

    #[test]
    fn key_that_is_no_string_is_refused_until_it_is_quoted() {
        assert_eq!(yaml("a:\n  0042: b").unwrap_err(), "f.yml:2: a.0042: must be a string: put it in quotes");
        assert!(yaml("a: { true: b }").is_err() && yaml("a: { ~: b }").is_err() && yaml("a: { 1.5: b }").is_err());
        assert_eq!(at(&yaml("\"0042\": b").unwrap(), &["0042"]), stands("b", "f.yml:1"));
        assert!(yaml("{ 'true': b, !!str 0042: d }").is_ok());
    }

    #[test]
    fn text_without_content_is_an_empty_map() {
        for text in ["", "\n", "# a comment\n", "~", "null", "{}", "---\n...\n"] {
            assert_eq!(yaml(text).unwrap().into_table().unwrap(), HashMap::new(), "{text:?}");
        }
    }

    #[test]
    fn aliases_copy_up_to_a_bound() {
        let nested = |levels: u8| {
            let level = |level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","));
            format!("a0: &a0 [{}]\n", ["x"; 10].join(",")) + &(1..levels).map(level).collect::<String>()
        };
        assert!(yaml(&nested(5)).is_ok());
        assert_eq!(
            yaml(&nested(8)).unwrap_err(),
            "f.yml:6: a5: is too large once its aliases are expanded: at most 200000 values"
        );
    }

    #[test]
    fn values_of_json_and_toml_stand_on_their_lines_too() {
        let path = Some(Path::new("f"));
        let json = of_json("{\n  \"a\": {\n \"b\": \"\\u00fc\\/\" } }", path).unwrap();
        assert_eq!(at(&json, &["a", "b"]), stands("ü/", "f:3"));
        let toml = of_toml("a.b = 0x10\n[c]\n\nd = [1,\n2]\ne = 1.5\nf = true", path).unwrap();
        assert_eq!(at(&toml, &["a", "b"]), stands("16", "f:1"));
        assert_eq!(at(&toml, &["c", "e"]), stands("1.5", "f:6"));
        assert_eq!(at(&toml, &["c", "f"]), stands("true", "f:7"));
    }

    proptest! {
        #[test]
        fn text_is_read_from_json_whether_or_not_its_characters_are_escaped(text: String) {
            let escape = |unit: u16| format!("\\u{unit:04x}");
            let escaped: String = text.encode_utf16().map(escape).collect();
            let path = Some(Path::new("f"));
            for json in [format!("{{\"a\": \"\\\\{escaped}\"}}"), json!({ "a": format!("\\{text}") }).to_string()] {
                let tree = of_json(&json, path).unwrap();
                prop_assert_eq!(at(&tree, &["a"]), stands(&format!("\\{text}"), "f:1"));
            }
        }
    }

    #[test]
    fn what_is_no_json_is_called_so() {
        for text in ["{ \"a\": 1, }", "{ a: 1 }", "{ \"a\": \"\\ud83d\" }"] {
            let problem = of_json(text, Some(Path::new("f.json"))).unwrap_err().to_string();
            assert!(problem.starts_with("f.json:1: is not valid JSON: see column "), "{problem}");
        }
    }

    #[test]
    fn scalars_without_quotes_are_read_by_the_core_schema() {
        let tree =
            yaml("a: 0x1F\nb: +7\nc: no\nd: True\ne: 1e3\nf: '1'\ng: !!str 1\nh: .inf").unwrap().into_table().unwrap();
        let kinds: Vec<_> = "abcdefgh".chars().map(|key| tree[&key.to_string()].kind.clone()).collect();
        assert_eq!(kinds[..4], [31i64.into(), 7i64.into(), "no".into(), true.into()] as [ValueKind; 4]);
        assert_eq!(kinds[4..7], [1000.0.into(), "1".into(), "1".into()] as [ValueKind; 3]);
    }
}
