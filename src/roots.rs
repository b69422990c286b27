//! The files of authorities that are trusted beside the system's (`http.ca_file`), followed while the exporter runs.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use exporter_toolkit::files::{self, Followed, Unread};

use crate::{account::Account, config::check_roots, poll::Supervisor};

/// What each file holds.
pub type Roots = BTreeMap<PathBuf, Arc<[u8]>>;

/// The files of these accounts, if they have any.
#[must_use]
pub fn followed(accounts: &[Arc<Account>]) -> Option<Followed<Roots>> {
    let root = |account: &Arc<Account>| Some((account.ca_file.clone()?, account.api.transport.extra_roots.clone()));
    let known: Roots = accounts.iter().filter_map(root).collect();
    let paths: Vec<PathBuf> = known.keys().cloned().collect();
    let read = move || paths.iter().map(|path| Some((path.clone(), files::read(path).ok()?.into()))).collect();
    (!known.is_empty()).then(|| Followed::new(Some(known), read))
}

/// Has the accounts trust what their files hold now, and returns how many trust others than before.
///
/// # Errors
/// What is wrong with a file. Then nothing has changed.
pub fn apply(supervisor: &mut Supervisor, roots: Result<Roots, Unread>) -> Result<usize, String> {
    let roots = roots.map_err(|why| format!("http.ca_file: {why}"))?;
    for (path, pem) in &roots {
        check_roots(pem).map_err(|refusal| format!("{}: {refusal}", path.display()))?;
    }
    let with_roots = |account: Arc<Account>| match account.ca_file.as_ref().and_then(|path| roots.get(path)) {
        Some(pem) if *pem != account.api.transport.extra_roots => Arc::new(account.with_roots(pem.clone())),
        _ => account,
    };
    let accounts: Vec<_> = supervisor.store.entries().iter().map(|entry| with_roots(entry.account())).collect();
    supervisor.run(&accounts).map(|change| change.changed).map_err(|error| error.to_string())
}
