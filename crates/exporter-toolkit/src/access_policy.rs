//! What stands before the pages: TLS, headers, passwords and the rate limit, as the web configuration file has
//! them now. The file, and those that it names, may change at any time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::Response;
use jiff::Timestamp;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    basic_auth::PasswordChecker,
    files::{Followed, Unread},
    lock,
    metrics::ServerMetrics,
    settings::Problems,
    tls,
    web_config::{RateLimit, WebConfig},
};

/// For how long a version of the files that does not fit together may become another before it counts.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// The policy of the file as it is now, which is swapped whole.
pub(crate) struct WebConfigHandle {
    policy: ArcSwap<AccessPolicy>,
    pub(crate) passwords: PasswordChecker,
}

/// What one version of the file asks for. Without a file it is open.
#[derive(Default)]
pub(crate) struct AccessPolicy {
    pub(crate) file: WebConfig,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    bucket: Option<Bucket>,
    /// Cancelled once another version asks for another TLS or other certificates of clients.
    replaced: CancellationToken,
}

impl WebConfigHandle {
    /// Makes it from the file, as the configuration was read, or without one.
    pub(crate) fn new(file: Option<&WebConfig>) -> Result<Self, Problems> {
        let policy = file.map(AccessPolicy::of).transpose()?.unwrap_or_default();
        file.into_iter().for_each(warn);
        let passwords = PasswordChecker::new().map_err(|error| Problems::one("the system", "", error.to_string()))?;
        Ok(Self { policy: ArcSwap::from_pointee(policy), passwords })
    }

    pub(crate) fn policy(&self) -> arc_swap::Guard<Arc<AccessPolicy>> {
        self.policy.load()
    }

    /// The TLS of a new connection, if any, and what is cancelled once what admitted it, such as a client's authority or the
    /// lack of TLS, is gone.
    pub(crate) fn admission(&self) -> (Option<Arc<ServerConfig>>, CancellationToken) {
        let policy = self.policy();
        (policy.tls.clone(), policy.replaced.clone())
    }

    /// Whether connections are by TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.policy().tls.is_some()
    }

    /// Applies each change of the file, and never returns. A bad version changes nothing.
    pub(crate) async fn follow(&self, file: WebConfig, metrics: &ServerMetrics) {
        metrics.web_config_read(true, file.certificate_expiry());
        let path = file.path.clone();
        let mut followed = Followed::new(Some(Ok(file)), move || Some(WebConfig::load(&path)));
        loop {
            let mut policy = self.policy_after(followed.changed().await);
            if policy.is_err() {
                // A certificate and its key are two files: the second comes a moment after the first.
                if let Ok(next) = timeout(SETTLE_TIME, followed.changed()).await {
                    policy = self.policy_after(next);
                }
            }
            self.apply(policy, metrics);
        }
    }

    fn apply(&self, policy: Result<AccessPolicy, Problems>, metrics: &ServerMetrics) {
        let (applied, now) = (policy.map(|policy| self.replace(policy)), self.policy());
        let expiry = now.file.certificate_expiry();
        metrics.web_config_read(applied.is_ok(), expiry);
        match applied {
            Ok(()) => {
                let expiry = expiry.and_then(|expiry| Timestamp::from_second(expiry).ok());
                info!(certificate_expiry = expiry.map(tracing::field::display), "web configuration reloaded");
                warn(&now.file);
            }
            Err(problems) => error!(%problems, "web configuration reload failed, keeping the previous configuration"),
        }
    }

    /// What the file asks for, unless it opens what is closed: a file that was emptied by mistake must not.
    fn policy_after(&self, read: Result<Result<WebConfig, Problems>, Unread>) -> Result<AccessPolicy, Problems> {
        let now = self.policy();
        let file = read.map_err(|why| Problems::one(now.file.path.display(), "", why.to_string()))??;
        let after = AccessPolicy::of(&file)?;
        let opened = if now.tls.is_some() && after.tls.is_none() {
            "tls_server_config"
        } else if now.asked().iter().zip(after.asked()).any(|(now, after)| *now && !after) {
            "tls_server_config.client_auth_type, client_ca_file or client_allowed_sans"
        } else if !now.file.users.is_empty() && file.users.is_empty() {
            "basic_auth_users"
        } else {
            return Ok(after);
        };
        let message = "was removed or weakened, which needs a restart of the exporter";
        Err(Problems::one(file.path.display(), opened, message))
    }

    fn replace(&self, mut policy: AccessPolicy) {
        let old = self.policy.load_full();
        let same_clients = old.clients() == policy.clients();
        if same_clients {
            policy.replaced = old.replaced.clone();
        }
        self.policy.store(Arc::new(policy));
        if !same_clients {
            old.replaced.cancel();
        }
    }
}

impl WebConfig {
    /// Logs what is doubtful in it.
    ///
    /// # Errors
    /// What in the file does not fit together.
    pub fn verify(&self) -> Result<(), Problems> {
        AccessPolicy::of(self)?;
        warn(self);
        Ok(())
    }
}

fn warn(file: &WebConfig) {
    for warning in file.warnings() {
        warn!(path = %file.path.display(), warning, "web configuration has a warning");
    }
}

impl AccessPolicy {
    fn of(file: &WebConfig) -> Result<Self, Problems> {
        let tls = file.tls.as_ref().map(|settings| tls::server_config(settings, file.http2)).transpose();
        let unusable = |error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                "certificate and key do not belong together: was one of the two renewed without the other?".to_owned()
            }
            error => format!("cannot be served: {error}"),
        };
        let tls = tls.map_err(|error| Problems::one(file.path.display(), "tls_server_config", unusable(error)))?;
        let bucket = file.rate_limit.map(Bucket::full);
        Ok(Self { file: file.clone(), tls: tls.map(Arc::new), bucket, replaced: CancellationToken::new() })
    }

    /// What admits a client: versions of TLS, how a certificate is asked for, by which authorities, and for which names.
    fn clients(&self) -> impl PartialEq {
        self.file.tls.as_ref().map(|tls| (tls.versions, tls.client_auth, &tls.client_ca, &tls.client_allowed_sans))
    }

    /// What is asked of clients' certificates, each of which another version must ask, too: that there is one, that it is
    /// verified, by authorities of its own instead of the system's, and for certain names.
    fn asked(&self) -> [bool; 4] {
        let Some(tls) = &self.file.tls else { return [false; 4] };
        let is_verified = tls.client_auth.verifies();
        let has_authorities = is_verified && !tls.client_ca.is_empty();
        [tls.client_auth.requires(), is_verified, has_authorities, tls.client_allowed_sans.is_some()]
    }

    /// Adds the headers that each answer has.
    pub(crate) fn add_headers<B>(&self, answer: &mut Response<B>) {
        for (name, value) in &self.file.headers {
            answer.headers_mut().insert(name, value.clone());
        }
    }

    /// Whether one more request is within the rate limit.
    pub(crate) fn allows_request(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.take(Instant::now()))
    }
}

/// A token bucket by the generic cell rate algorithm: its state is the time at which it would be full.
struct Bucket {
    limit: RateLimit,
    full_at: Mutex<Instant>,
}

impl Bucket {
    fn full(limit: RateLimit) -> Self {
        Self { limit, full_at: Mutex::new(Instant::now()) }
    }

    fn take(&self, now: Instant) -> bool {
        let mut full_at = lock(&self.full_at);
        let after = (*full_at).max(now) + self.limit.interval;
        let is_within = after.duration_since(now) <= self.limit.interval * self.limit.burst;
        if is_within {
            *full_at = after;
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures_of(metrics: &ServerMetrics) -> u64 {
        metrics.web_config().map_or(0, |read| read.failures)
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_file_is_reported_once_however_long_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, "rate_limit: { interval: 1s, burst: 1 }").unwrap();
        let file = WebConfig::load(&path).unwrap();
        let (web_config, metrics) =
            (Arc::new(WebConfigHandle::new(Some(&file)).unwrap()), Arc::<ServerMetrics>::default());
        let (following, counting) = (Arc::clone(&web_config), Arc::clone(&metrics));
        tokio::spawn(async move { following.follow(file, &counting).await });
        for (content, failures, limited) in [("unknown: 1", 1, true), ("# none", 1, false), ("unknown: 2", 2, false)] {
            std::fs::write(&path, content).unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(failures_of(&metrics), failures, "{content}");
            assert_eq!(web_config.policy().bucket.is_some(), limited, "{content}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_whose_key_comes_a_moment_later_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: String| std::fs::write(folder.path().join(name), content).unwrap();
        let pair = || {
            let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            (pair.cert.pem(), pair.signing_key.serialize_pem())
        };
        let ((certificate, key), (renewed, its_key)) = (pair(), pair());
        write("server.crt", certificate);
        write("server.key", key);
        write("web.yml", "tls_server_config: { cert_file: server.crt, key_file: server.key }".to_owned());
        let file = WebConfig::load(&folder.path().join("web.yml")).unwrap();
        let (web_config, metrics) =
            (Arc::new(WebConfigHandle::new(Some(&file)).unwrap()), Arc::<ServerMetrics>::default());
        let (following, counting) = (Arc::clone(&web_config), Arc::clone(&metrics));
        tokio::spawn(async move { following.follow(file, &counting).await });
        let before = web_config.admission().0.unwrap();
        write("server.crt", renewed);
        let half = WebConfig::load(&folder.path().join("web.yml")).unwrap();
        let problem = AccessPolicy::of(&half).err().unwrap().to_string();
        assert!(problem.contains("certificate and key do not belong together"), "{problem}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        write("server.key", its_key);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(failures_of(&metrics), 0);
        assert!(!Arc::ptr_eq(&before, &web_config.admission().0.unwrap()), "the new pair is used");
        write("server.key", "no key".to_owned());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(failures_of(&metrics), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_one_for_each_interval() {
        let interval = Duration::from_secs(2);
        let bucket = Bucket::full(RateLimit { interval, burst: 3 });
        let start = Instant::now();
        let taken = |at: u64| bucket.take(start + Duration::from_secs(at));
        assert_eq!([0, 0, 0, 0, 1, 2, 2, 3, 4].map(taken), [true, true, true, false, false, true, false, false, true]);
        assert_eq!([100, 100, 100, 100].map(taken), [true, true, true, false]);
    }
}
