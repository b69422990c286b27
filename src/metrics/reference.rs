//! All families that the exporter can show, from the code that makes them.

use exporter_toolkit::{Kind, SERVER_FAMILIES};
use prometheus::proto::Metric;

use super::own::OwnMetrics;
use crate::{poll::Limiter, shard::Shard};

/// A family of the exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyReference {
    /// Its name.
    pub name: String,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

/// The families of the accounts, then the exporter's own.
#[must_use]
pub fn families() -> Vec<FamilyReference> {
    let of_accounts = super::families::all().map(|(family, labels)| FamilyReference {
        name: family.name.to_owned(),
        kind: family.kind.as_str(),
        labels: labels.into_iter().map(ToOwned::to_owned).collect(),
        help: family.help.to_owned(),
    });
    let of_server = SERVER_FAMILIES.iter().map(|family| FamilyReference {
        name: format!("koodrive_exporter_{}", family.name),
        kind: family.kind.as_str(),
        labels: family.labels.iter().map(ToString::to_string).collect(),
        help: family.help.to_owned(),
    });
    let mut of_exporter: Vec<_> = own_families().unwrap_or_default().into_iter().chain(of_server).collect();
    of_exporter.sort_by(|a, b| a.name.cmp(&b.name));
    of_accounts.chain(of_exporter).collect()
}

/// The exporter's own, each of which has been touched once.
fn own_families() -> prometheus::Result<Vec<FamilyReference>> {
    let own = OwnMetrics::new(0.0)?;
    own.show_polls(&Limiter::new(1))?;
    if let Ok(shard) = Shard::new(0, 1) {
        own.sharded(shard)?;
    }
    let labels = |metric: Option<&Metric>| {
        metric.map(|metric| metric.get_label().iter().map(|label| label.name().to_owned()).collect())
    };
    let family = |family: prometheus::proto::MetricFamily| FamilyReference {
        name: family.name().to_owned(),
        kind: Kind::of(&family).as_str(),
        labels: labels(family.get_metric().first()).unwrap_or_default(),
        help: family.help().to_owned(),
    };
    Ok(own.registry().gather().into_iter().map(family).collect())
}
