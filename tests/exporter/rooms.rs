//! The "never" list of `ARCHITECTURE.md`, as far as the source shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

type Names = BTreeSet<String>;

/// A path as it is written, such as `crate::poll::Board`, and the module in which it is.
#[derive(Debug)]
struct Use {
    module: Vec<String>,
    path: Vec<String>,
}

impl Use {
    /// The path from the crate's root, where it leads there by `crate` or `super`.
    fn rooted(&self) -> Option<Vec<&str>> {
        let ups = self.path.iter().take_while(|part| *part == "super").count();
        let base = match self.path.first().map(String::as_str) {
            Some("crate") => 0,
            Some("super") => self.module.len().checked_sub(ups)?,
            _ => return None,
        };
        let parts = self.module[..base].iter().chain(&self.path[ups.max(1)..]);
        Some(parts.map(String::as_str).collect())
    }

    fn room(&self) -> &str {
        &self.module[0]
    }

    fn is(&self, path: &[&str]) -> bool {
        self.path.iter().map(String::as_str).collect::<Vec<_>>().ends_with(path)
    }
}

/// All paths of the library's source, those of groups (`a::{b, c}`) one by one.
fn uses() -> Vec<Use> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut uses = Vec::new();
    for (file, tokens) in sources() {
        let below = file.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Vec<String> = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        if !["lib", "main"].contains(&module[0].as_str()) {
            walk(tokens, &module, &mut uses);
        }
    }
    uses
}

fn sources() -> Vec<(PathBuf, TokenStream)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let tokens = fs::read_to_string(&path).unwrap().parse().unwrap();
                sources.push((path, tokens));
            }
        }
    }
    sources
}

fn walk(tokens: TokenStream, module: &[String], uses: &mut Vec<Use>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut after_mod = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if after_mod => {
                after_mod = false;
                if let Some(TokenTree::Group(body)) = tokens.peek() {
                    walk(body.stream(), &[module, &[ident.to_string()]].concat(), uses);
                    tokens.next();
                }
            }
            TokenTree::Ident(ident) if ident == "mod" => after_mod = true,
            TokenTree::Ident(ident) => {
                let rest: TokenStream = tokens.collect();
                let (paths, rest) = paths(ident.to_string(), rest);
                uses.extend(paths.into_iter().map(|path| Use { module: module.to_vec(), path }));
                tokens = rest.into_iter().peekable();
            }
            TokenTree::Group(group) => walk(group.stream(), module, uses),
            _ => {}
        }
    }
}

/// The paths that begin with `first`, and the tokens behind them.
fn paths(first: String, tokens: TokenStream) -> (Vec<Vec<String>>, TokenStream) {
    let mut path = vec![first];
    let mut rest: Vec<TokenTree> = tokens.into_iter().collect();
    loop {
        match &rest[..] {
            [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(next), ..]
                if a.as_char() == ':' && b.as_char() == ':' =>
            {
                path.push(next.to_string());
                rest.drain(..3);
            }
            [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Group(group), ..]
                if a.as_char() == ':' && b.as_char() == ':' && group.delimiter() == Delimiter::Brace =>
            {
                let mut members = Vec::new();
                walk(group.stream(), &[], &mut members);
                rest.drain(..3);
                let whole = members.into_iter().map(|member| [&path[..], &member.path].concat()).collect();
                return (whole, rest.into_iter().collect());
            }
            _ => return (vec![path], rest.into_iter().collect()),
        }
    }
}

/// Which rooms each room imports.
fn imports() -> BTreeMap<String, Names> {
    let uses = uses();
    let rooms: Names = uses.iter().map(|each| each.room().to_owned()).collect();
    let mut imports: BTreeMap<_, _> = rooms.iter().map(|room| (room.clone(), Names::new())).collect();
    for each in &uses {
        if let Some([room, ..]) = each.rooted().as_deref()
            && *room != each.room()
        {
            assert!(rooms.contains(*room), "{each:?}");
            imports.get_mut(each.room()).unwrap().insert((*room).to_owned());
        }
    }
    imports
}

/// The table of rooms in `ARCHITECTURE.md`.
fn documented() -> BTreeMap<String, Names> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Rooms\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Names>();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        (names(cells[1]).pop_first().unwrap(), names(cells[3]))
    });
    rows.collect()
}

#[test]
fn each_room_imports_the_rooms_that_the_table_says_and_no_others() {
    assert_eq!(imports(), documented());
}

#[test]
fn no_room_imports_one_that_must_not_be_known_to_it() {
    let imports = imports();
    for (room, unknown) in [
        ("account", &["clock", "config", "koodrive", "poll", "metrics", "web"][..]),
        ("config", &["koodrive", "poll", "metrics", "web"]),
        ("koodrive", &["config", "poll", "metrics", "web"]),
        ("poll", &["config", "metrics", "web"]),
        ("metrics", &["config", "web"]),
        ("web", &["simulator"]),
    ] {
        for unknown in unknown {
            assert!(!imports[room].contains(*unknown), "{room} must not know {unknown}");
        }
    }
}

#[test]
fn no_two_rooms_know_each_other_not_even_by_way_of_others() {
    let mut imports = imports();
    while !imports.is_empty() {
        let free: Names = imports.iter().filter(|(_, known)| known.is_empty()).map(|(room, _)| room.clone()).collect();
        assert!(!free.is_empty(), "in a circle, or above one: {imports:?}");
        imports.retain(|room, _| !free.contains(room));
        for known in imports.values_mut() {
            known.retain(|room| !free.contains(room));
        }
    }
}

#[test]
fn a_scrape_cannot_reach_the_api_or_wait_for_a_poll() {
    for each in uses() {
        let may_ask = ["koodrive", "healthcheck"].contains(&each.room());
        assert!(may_ask || each.path[0] != "reqwest", "{each:?}");
        if ["web", "metrics"].contains(&each.room()) {
            assert!(
                each.rooted().is_none_or(|path| !path.starts_with(&["koodrive", "Client"]) && path[..] != ["koodrive"]),
                "{each:?}"
            );
        }
        if each.module.starts_with(&["poll".to_owned(), "accounts".to_owned()]) {
            assert!(!each.is(&["Mutex"]) && !each.is(&["RwLock"]), "{each:?}");
        }
    }
}

#[test]
fn time_comes_from_the_clocks_that_tests_can_set() {
    for each in uses() {
        let names = |path: &[&str]| each.path.windows(path.len()).any(|part| part == path);
        assert!(!names(&["std", "time", "Instant"]) && !names(&["thread", "sleep"]), "{each:?}");
        assert!(!each.is(&["Timestamp", "now"]) && !each.is(&["Zoned", "now"]), "{each:?}");
        assert!(each.room() == "clock" || !each.is(&["SystemTime", "now"]), "{each:?}");
    }
}

#[test]
fn there_is_no_global_mutable_state() {
    // A table, a text made at its first use, and the allocator, which has no value of its own.
    const CONSTANT: [&[&str]; 3] =
        [&["FAMILIES"], &["POLICY", "LazyLock", "String"], &["ALLOCATOR", "mimalloc", "MiMalloc"]];
    for (file, tokens) in sources() {
        for global in globals(tokens) {
            assert!(CONSTANT.iter().any(|constant| global == *constant), "{}: {global:?}", file.display());
        }
    }
    assert!(!uses().iter().any(|each| each.is(&["default_registry"])));
}

/// The name of each `static` and those in its type.
fn globals(tokens: TokenStream) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut tokens = tokens.into_iter();
    let mut before = None;
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => found.extend(globals(group.stream())),
            // Behind an apostrophe it is a lifetime.
            TokenTree::Ident(ident) if ident == "static" && before != Some('\'') => {
                let declared = tokens
                    .by_ref()
                    .take_while(|token| !matches!(token, TokenTree::Punct(punct) if punct.as_char() == '='));
                found.push(
                    declared
                        .filter_map(
                            |token| if let TokenTree::Ident(name) = token { Some(name.to_string()) } else { None },
                        )
                        .collect(),
                );
            }
            _ => {}
        }
        before = if let TokenTree::Punct(punct) = &token { Some(punct.as_char()) } else { None };
    }
    found
}
