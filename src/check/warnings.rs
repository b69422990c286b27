//! What is not wrong with a configuration and yet will fail: secrets, certificates, accounts that are given twice.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use exporter_toolkit::WebConfig;
use koodrive::{Credential, Secret};

use crate::{account::Account, clock::unix_seconds, config::Config, human};

/// A certificate that expires within this time is worth a word; `KooDriveCertificateExpiry` begins then, too.
pub(crate) const CERTIFICATE_EXPIRES_SOON: f64 = 14.0 * 86_400.0;

/// The bits of a file's mode by which everybody may read or write it.
const EVERYBODY: u32 = 0o006;

/// All of them, each with its key.
#[must_use]
pub fn warnings(config: &Config, now: SystemTime) -> Vec<String> {
    let web = config.web.options.web_config.as_ref();
    let mut warnings = web.map(WebConfig::warnings).unwrap_or_default();
    warnings.extend(web.and_then(|web| certificate_warning(web, now)));
    let accounts: Vec<&Account> =
        config.accounts.iter().map(AsRef::as_ref).filter(|account| account.is_overview()).collect();
    warnings.extend(accounts.iter().filter_map(|account| of_secret(account)));
    let mut users: HashMap<(String, &str), &str> = HashMap::new();
    for account in accounts {
        let alias = account.alias.as_str();
        let user = (account.api.endpoint.to_string(), account.api.user_id.as_str());
        if let Some(first) = users.insert(user, alias) {
            warnings
                .push(format!("accounts.{alias}.user_id: is that of accounts.{first}, too: the same numbers twice"));
        }
    }
    warnings
}

/// Whether the listener's certificate has expired or will soon.
#[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
#[must_use]
pub fn certificate_warning(web: &WebConfig, now: SystemTime) -> Option<String> {
    let left = web.certificate_expiry()? as f64 - unix_seconds(now);
    let time = std::time::Duration::try_from_secs_f64(left.abs()).unwrap_or_default();
    match left {
        left if left <= 0.0 => {
            Some(format!("tls_server_config: the certificate expired {} ago", human::duration(time)))
        }
        left if left < CERTIFICATE_EXPIRES_SOON => {
            Some(format!("tls_server_config: the certificate expires in {}", human::duration(time)))
        }
        _ => None,
    }
}

/// What is wrong with the file of an account's secret, as the user sees it who runs this.
fn of_secret(account: &Account) -> Option<String> {
    let Secret::File(path) = account.api.credential.secret() else { return None };
    let key = match account.api.credential {
        Credential::Token { .. } => "token_file",
        Credential::App { .. } => "app_secret_file",
    };
    let key = format!("accounts.{}.auth.{key}", account.alias);
    if let Err(error) = account.api.credential.secret().check() {
        let user = fs::metadata("/proc/self").map_or_else(|_| String::new(), |own| format!(", as user {}", own.uid()));
        return Some(format!("{key}: {}: {error}{user}", shown(path)));
    }
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    (mode & EVERYBODY != 0).then(|| {
        format!("{key}: {}: everybody can read or write it (mode {mode:o}); 600 or 640 is right", path.display())
    })
}

/// A path that leads nowhere may be the secret itself: then its folder alone is shown.
fn shown(path: &Path) -> String {
    match path.parent() {
        _ if path.exists() => path.display().to_string(),
        Some(folder) if folder.exists() => format!("a file in {}", folder.display()),
        _ => "the file".to_owned(),
    }
}
