//! What `check` shows: the configuration, and with `--online` what one poll of each account found.

mod online;
mod remedy;
mod warnings;

pub use online::Online;
pub(crate) use remedy::{HARMLESS_SKEW, side_of};
pub use remedy::{remedy, remedy_of_reason};
pub use warnings::{certificate_warning, warnings};

use crate::config::Setting;

/// The settings as a table.
#[must_use]
pub fn settings(settings: &[Setting]) -> String {
    let rows = settings.iter().map(|setting| [setting.key.clone(), setting.value.clone(), setting.origin.clone()]);
    table([["KEY", "VALUE", "FROM"].map(ToOwned::to_owned)].into_iter().chain(rows), &[])
}

/// Columns side by side; the rows below the first are coloured by `good` in their second column.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>, good: &[bool]) -> String {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let colour = index.checked_sub(1).and_then(|index| good.get(index));
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let padding = " ".repeat(width - cell.chars().count());
            match (column, colour) {
                (1, Some(true)) => format!("\x1b[32m{cell}\x1b[0m{padding}"),
                (1, Some(false)) => format!("\x1b[31m{cell}\x1b[0m{padding}"),
                _ => format!("{cell}{padding}"),
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
