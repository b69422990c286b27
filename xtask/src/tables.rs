//! The tables of the pages under `docs/`, made from the code that they describe.
//!
//! A page holds a table between `<!-- table: NAME -->` and `<!-- end -->`; all else is written by hand.

use std::{error::Error, fmt::Display, fs, path::Path};

use clap::CommandFactory;
use koodrive::Reason;
use koodrive_exporter::{check, cli::Cli, config, metrics};

const BEGIN: &str = "<!-- table: ";
const END: &str = "<!-- end -->";

/// Puts the tables up to date, or fails where one is not.
pub(crate) fn update(check: bool) -> Result<(), Box<dyn Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for entry in fs::read_dir(docs)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let page = fs::read_to_string(&path)?;
        let filled = fill(&page).map_err(|error| format!("{}: {error}", path.display()))?;
        if filled == page {
            continue;
        }
        if check {
            return Err(format!("{}: a table is out of date: run cargo xtask tables", path.display()).into());
        }
        fs::write(&path, filled)?;
    }
    Ok(())
}

/// The page with its tables as they are now.
///
/// # Errors
/// Names what is no table, or does not end.
fn fill(page: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = page;
    while let Some((before, table)) = rest.split_once(BEGIN) {
        let (name, table) = table.split_once(" -->").ok_or("a table's name does not end")?;
        let (_, after) = table.split_once(END).ok_or_else(|| format!("the table {name} does not end"))?;
        let rows = rows(name).ok_or_else(|| format!("there is no table {name}"))?;
        filled.extend([before, BEGIN, name, " -->\n", &rows, END]);
        rest = after;
    }
    Ok(filled + rest)
}

fn rows(name: &str) -> Option<String> {
    match name {
        "keys" => Some(keys()),
        "web file keys" => Some(web_file_keys()),
        "families" => Some(families()),
        "reasons" => Some(reasons()),
        _ => None,
    }
}

fn keys() -> String {
    let command = Cli::command();
    let flag = |path: &str| {
        let long = command.get_arguments().find(|argument| argument.get_id() == path)?.get_long()?;
        Some(format!("`--{long}`"))
    };
    let rows = config::config_keys().into_iter().map(|config::ConfigKey { key, default, again_under_accounts }| {
        let again = if again_under_accounts { "yes" } else { "" };
        [
            code(&key.path),
            key.values,
            default.map(code).unwrap_or_default(),
            again.to_owned(),
            flag(&key.path).unwrap_or_default(),
            key.meaning.clone(),
        ]
    });
    table(["key", "value", "default", "per account", "flag", "meaning"], rows)
}

fn web_file_keys() -> String {
    let rows = config::web_file_keys().into_iter().map(|key| [code(key.path), key.values, key.meaning]);
    table(["key", "value", "meaning"], rows)
}

fn families() -> String {
    let rows = metrics::families().into_iter().map(|family| {
        let labels: Vec<_> = family.labels.iter().map(code).collect();
        [code(family.name), family.kind.to_owned(), labels.join(", "), family.help]
    });
    table(["name", "type", "labels", "meaning"], rows)
}

fn reasons() -> String {
    let rows =
        Reason::ALL.into_iter().map(|(reason, name)| [code(name), check::remedy_of_reason(reason, false).to_owned()]);
    table(["`reason`", "look at"], rows)
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let escaped = |row: [String; N]| row.map(|cell| cell.replace('|', "\\|"));
    let head = line(&head.map(ToOwned::to_owned)) + &line(&[const { "---" }; N].map(ToOwned::to_owned));
    rows.fold(head, |table, row| table + &line(&escaped(row)))
}

fn code(text: impl Display) -> String {
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_those_of_the_code() {
        update(true).unwrap();
    }

    #[test]
    fn pages_hold_their_tables() {
        for (page, tables) in [("configuration", ["keys", "web file keys"]), ("metrics", ["families", "reasons"])] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{page}.md"));
            let page = fs::read_to_string(path).unwrap();
            assert!(tables.iter().all(|table| page.contains(&format!("<!-- table: {table} -->\n| "))));
        }
    }

    #[test]
    fn table_that_is_unknown_or_does_not_end_is_an_error() {
        for bad in ["<!-- table: nonsense -->\n<!-- end -->", "<!-- table: keys -->", "<!-- table: keys"] {
            assert!(fill(bad).is_err(), "{bad}");
        }
    }
}
