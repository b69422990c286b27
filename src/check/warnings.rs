//! What is not wrong with a configuration and yet will fail: secrets, certificates, accounts that are given twice.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use exporter_toolkit::WebConfig;
use koodrive::SecretSource;

use crate::{
    account::Account,
    clock::unix_seconds,
    config::{Config, Setting},
    human,
};

/// A certificate that expires within this time is worth a word; `KooDriveCertificateExpiry` begins then, too.
const CERTIFICATE_EXPIRES_SOON: f64 = 14.0 * 86_400.0;

/// The bits of a file's mode by which everybody may read or write it.
const EVERYBODY: u32 = 0o006;

/// Those by which the group or everybody may read it.
const READ_BY_OTHERS: u32 = 0o044;

const ROOT: u32 = 0;

/// All of them, each with its key. `settings` are all, and `file` is the one that they were read from.
#[must_use]
pub fn warnings(config: &Config, settings: &[Setting], file: Option<&Path>, now: SystemTime) -> Vec<String> {
    let web = config.web.options.web_config.as_ref();
    let mut warnings = web.map(WebConfig::warnings).unwrap_or_default();
    let expiry = web.and_then(WebConfig::certificate_expiry);
    let certificate = expiry.and_then(|expiry| certificate_warning(expiry, now));
    warnings.extend(certificate.map(|warning| format!("tls_server_config: the {warning}")));
    let key_file = web.and_then(|web| web.tls.as_ref()?.key_file.as_deref());
    let wrong = key_file.and_then(|path| Some((path, of_mode(path)?)));
    warnings.extend(wrong.map(|(path, wrong)| format!("tls_server_config.key_file: {}: {wrong}", path.display())));
    let accounts: Vec<&Account> =
        config.accounts.iter().map(AsRef::as_ref).filter(|account| account.is_overview()).collect();
    warnings.extend(file.and_then(|file| of_inline_secrets(&accounts, settings, file)));
    warnings.extend(accounts.iter().filter_map(|account| of_secret(account)));
    let mut users: HashMap<(String, &str), &str> = HashMap::new();
    for account in accounts {
        let alias = account.alias.as_str();
        let user = (account.api.endpoint.to_string(), account.api.user_id.as_str());
        if let Some(first) = users.insert(user, alias) {
            warnings.push(format!(
                "accounts.{alias}.user_id: is that of accounts.{first}, too: both show the same numbers"
            ));
        }
    }
    warnings
}

/// Whether a certificate that ends at `expiry` has expired or will soon, and what that means.
#[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
#[must_use]
pub fn certificate_warning(expiry: i64, now: SystemTime) -> Option<String> {
    let left = expiry as f64 - unix_seconds(now);
    let time = human::duration(Duration::try_from_secs_f64(left.abs()).unwrap_or_default());
    let renew = "put a renewed one in its place, which is used without a restart";
    match left {
        ..=0.0 => Some(format!(
            "listener's certificate expired {time} ago: clients that verify it, such as Prometheus, fail; {renew}"
        )),
        ..CERTIFICATE_EXPIRES_SOON => Some(format!("listener's certificate expires in {time}: {renew}")),
        _ => None,
    }
}

/// Whether everybody can read the secrets that stand in the configuration itself.
fn of_inline_secrets(accounts: &[&Account], settings: &[Setting], file: &Path) -> Option<String> {
    let key = |account: &&Account| {
        let secret = account.api.credential.secret();
        let is_inline = matches!(secret.source, SecretSource::Inline(_));
        is_inline.then(|| format!("accounts.{}.{}", account.alias, secret.key))
    };
    let keys: HashSet<_> = accounts.iter().filter_map(key).collect();
    let setting = settings.iter().find(|setting| keys.contains(&setting.key) && setting.origin.starts_with("file "))?;
    let mode = fs::metadata(file).ok()?.mode() & 0o777;
    (mode & EVERYBODY != 0).then(|| {
        format!("{}: is in {}, which everybody can read or write (mode {mode:o})", setting.key, file.display())
    })
}

/// What is wrong with the file of an account's secret, as the user sees it who runs this.
fn of_secret(account: &Account) -> Option<String> {
    let secret = account.api.credential.secret();
    let SecretSource::File { path, .. } = &secret.source else { return None };
    if let Err(error) = secret.read() {
        return Some(format!("accounts.{}.{error}", account.alias));
    }
    Some(format!("accounts.{}.{}: {}: {}", account.alias, secret.key, path.display(), of_mode(path)?))
}

/// What is wrong with the mode of a file that holds a secret.
fn of_mode(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let mode = file.mode() & 0o777;
    if mode & EVERYBODY != 0 {
        Some(format!("everybody can read or write it (mode {mode:o}); 600 or 640 is right"))
    } else if file.uid() == ROOT && mode & READ_BY_OTHERS == 0 {
        Some(format!("only root can read it (mode {mode:o}), and the exporter should run as another user"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_worth_a_word_from_two_weeks_before_its_end_on() {
        let day = 86_400;
        let warning = |expiry| certificate_warning(expiry, SystemTime::UNIX_EPOCH);
        assert_eq!(warning(15 * day), None);
        assert!(warning(2 * day).unwrap().contains("expires in 2 d:"));
        assert!(warning(-3600).unwrap().contains("expired 1 h ago:"));
    }
}
