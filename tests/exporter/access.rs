//! TLS, client certificates and passwords, by files as the exporter toolkit has them.

use std::{sync::Arc, time::Duration};

use reqwest::{Certificate, Identity, StatusCode, Version};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    hostile::Authority,
    support::{Exporter, Files, PATIENCE, Page, Upstream, client},
};

/// Cheap to check, so that tests are quick.
fn bcrypt(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

/// An exporter behind a web configuration file.
pub struct Scene {
    pub exporter: Exporter,
    pub files: Files,
    pub authority: Authority,
    _upstream: Upstream,
}

impl Scene {
    /// TLS with a certificate for `localhost`, and what else `web` says. Further flags go to the exporter.
    pub async fn start(web: &str, flags: &[&str]) -> Self {
        Self::with_accounts(1, web, flags).await
    }

    pub async fn with_accounts(accounts: u64, web: &str, flags: &[&str]) -> Self {
        let (files, upstream, authority) = (Files::new(), Upstream::start(accounts).await, Authority::new());
        let (certificate, key) = authority.issue("localhost");
        files.write("server.crt", certificate);
        files.write("server.key", key);
        files.write("ca.crt", &authority.1);
        let web = files.write("web.yml", web);
        let config = files.write("k.yml", upstream.configuration("1m"));
        let flags = [&["--web.config.file", web.to_str().unwrap()], flags].concat();
        let exporter = Exporter::start(&config, &flags).await;
        Self { exporter, files, authority, _upstream: upstream }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.exporter.url.rsplit(':').next().unwrap())
    }

    /// A client that trusts the exporter's authority, and has a certificate of its own or not.
    pub fn client(&self, identity: Option<(String, String)>) -> reqwest::Client {
        let _ = client();
        let root = Certificate::from_pem(self.authority.1.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]).pool_max_idle_per_host(0);
        match identity {
            Some((certificate, key)) => {
                builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap())
            }
            None => builder,
        }
        .build()
        .unwrap()
    }

    pub async fn connect(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.exporter.url.strip_prefix("http://").unwrap()).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    pub fn tls(
        &self,
        provider: rustls::crypto::CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.1.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    pub async fn connect_h2(&self) -> TlsStream<TcpStream> {
        let mut config = self.tls(ring::default_provider(), &[&TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        self.connect(config).await.unwrap()
    }

    /// Waits until the exporter has looked at its files again, and says so.
    async fn reloaded(&mut self, message: &str) {
        self.exporter.line(|line| line.contains(message)).await;
    }

    fn write(&self, name: &str, content: &str) {
        // As a whole, as those who renew certificates do.
        let new = self.files.write("new", content);
        std::fs::rename(new, self.files.path(name)).unwrap();
    }
}

pub const TLS: &str = "tls_server_config: { cert_file: server.crt, key_file: server.key }\n";

#[tokio::test]
async fn a_file_of_the_toolkit_with_tls_users_headers_and_a_rate_limit_works_as_it_is() {
    let web = format!(
        "# Certificate and key.\ntls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  min_version: TLS12\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: false\n  \
         curve_preferences: [CurveP256, X25519]\nhttp_server_config:\n  http2: true\n  headers:\n    \
         Strict-Transport-Security: max-age=31536000\n    X-Frame-Options: sameorigin\n    X-XSS-Protection: \"\"\n\
         basic_auth_users:\n  alice: {}\n  Bob.B: {}\nrate_limit:\n  interval: \"1s\"\n  burst: 20\n",
        bcrypt("alice's"),
        bcrypt("bob's")
    );
    let scene = Scene::start(&web, &[]).await;
    let http = scene.client(None);
    let get = async |path: &str, user: &str, password: &str| {
        http.get(scene.url(path)).basic_auth(user, Some(password)).send().await.unwrap()
    };
    let page = get("/metrics", "alice", "alice's").await;
    assert_eq!((page.status(), page.version()), (StatusCode::OK, Version::HTTP_2));
    let page = get("/", "Bob.B", "bob's").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!(page.headers()["x-frame-options"], "sameorigin");
    assert!(!page.headers().contains_key("x-xss-protection"));
    assert_eq!(get("/metrics", "alice", "bob's").await.status(), StatusCode::UNAUTHORIZED);
    let mut refused = None;
    for _ in 0..30 {
        let page = get("/metrics", "alice", "alice's").await;
        if page.status() != StatusCode::OK {
            refused = Some(page.status());
        }
    }
    assert_eq!(refused, Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(get("/-/healthy", "", "").await.status(), StatusCode::OK, "health is never limited");
}

#[tokio::test]
async fn inline_certificates_and_keys_are_served() {
    let (upstream, files, authority) = (Upstream::start(1).await, Files::new(), Authority::new());
    let (certificate, key) = authority.issue("localhost");
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat();
    let web = format!("tls_server_config:\n  cert: |\n{}  key: |\n{}", indented(&certificate), indented(&key));
    let web = files.write("web.yml", web);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let exporter = Exporter::start(&config, &["--web.config.file", web.to_str().unwrap()]).await;
    let scene = Scene { exporter, files, authority, _upstream: upstream };
    assert_eq!(scene.client(None).get(scene.url("/health")).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn each_kind_of_client_authentication_lets_in_whom_it_should() {
    for (kind, ca, [none, unknown, known]) in [
        ("NoClientCert", false, [true, true, true]),
        ("RequestClientCert", false, [true, true, true]),
        ("RequireAnyClientCert", false, [false, true, true]),
        ("RequireClientCert", false, [false, true, true]),
        ("VerifyClientCertIfGiven", true, [true, false, true]),
        ("RequireAndVerifyClientCert", true, [false, false, true]),
    ] {
        for version in ["TLS12", "TLS13"] {
            let ca = if ca { "client_ca_file: ca.crt, " } else { "" };
            let web = format!(
                "tls_server_config: {{ cert_file: server.crt, key_file: server.key, {ca}client_auth_type: {kind}, max_version: {version}, min_version: {version} }}"
            );
            let scene = Scene::start(&web, &[]).await;
            let (stranger, friend) = (Authority::new().issue("client"), scene.authority.issue("client"));
            for (identity, expected) in [(None, none), (Some(stranger), unknown), (Some(friend), known)] {
                let answer = scene.client(identity).get(scene.url("/health")).send().await;
                assert_eq!(answer.is_ok(), expected, "{kind} {version} {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_clients_certificate_must_bear_an_allowed_name_where_there_are_any() {
    let web = "tls_server_config: { cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
               client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus.example, 192.0.2.1] }";
    let scene = Scene::start(web, &[]).await;
    for (name, expected) in
        [("prometheus.example", true), ("192.0.2.1", true), ("other.example", false), ("192.0.2.2", false)]
    {
        let client = scene.client(Some(scene.authority.issue(name)));
        assert_eq!(client.get(scene.url("/metrics")).send().await.is_ok(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_change_that_asks_less_of_clients_is_refused_until_a_restart() {
    let strict = "tls_server_config: { cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
                  client_auth_type: RequireAndVerifyClientCert }";
    let mut scene = Scene::start(strict, &[]).await;
    let by_the_systems_authorities = strict.replace("client_ca_file: ca.crt, ", "");
    let if_given = strict.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven");
    let unverified = strict.replace("RequireAndVerifyClientCert", "RequireAnyClientCert");
    for weaker in [TLS.to_owned(), if_given, unverified, by_the_systems_authorities] {
        scene.write("web.yml", &weaker);
        scene.reloaded("was removed or weakened").await;
        assert!(scene.client(None).get(scene.url("/metrics")).send().await.is_err());
    }
}

#[tokio::test]
async fn versions_suites_and_curves_are_those_of_the_file() {
    let web = "tls_server_config: { cert_file: server.crt, key_file: server.key, max_version: TLS12, \
               cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], curve_preferences: [CurveP384] }";
    let scene = Scene::start(web, &[]).await;
    let only = |suite: &str, group: &str| {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|each| format!("{:?}", each.suite()).contains(suite));
        provider.kx_groups.retain(|each| format!("{:?}", each.name()) == group);
        provider
    };
    assert!(scene.connect(scene.tls(ring::default_provider(), &[&TLS12])).await.is_ok());
    assert!(scene.connect(scene.tls(ring::default_provider(), &[&TLS13])).await.is_err());
    assert!(scene.connect(scene.tls(only("ECDSA_WITH_AES_256", "secp384r1"), &[&TLS12])).await.is_ok());
    assert!(scene.connect(scene.tls(only("ECDSA_WITH_AES_128", "secp384r1"), &[&TLS12])).await.is_err());
    assert!(scene.connect(scene.tls(only("ECDSA_WITH_AES_256", "X25519"), &[&TLS12])).await.is_err());
}

#[tokio::test]
async fn http2_can_be_left_out() {
    let scene = Scene::start(&format!("{TLS}http_server_config: {{ http2: false }}"), &[]).await;
    let answer = scene.client(None).get(scene.url("/metrics")).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_dropping_connections() {
    let mut scene = Scene::start(TLS, &[]).await;
    let mut old = scene.connect(scene.tls(ring::default_provider(), &[&TLS13])).await.unwrap();
    let expiry = |page: &Page| page.value("koodrive_exporter_tls_certificate_expiry_timestamp_seconds");
    let get = async |scene: &Scene| Page::of(scene.client(None).get(scene.url("/metrics")).send().await.unwrap()).await;
    assert!(expiry(&get(&scene).await).unwrap() > 1e9);
    let certificate_of = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (certificate, key) = scene.authority.issue("localhost");
    // Between the two writes the pair does not fit, which may or may not be noticed.
    scene.write("server.key", &key);
    scene.write("server.crt", &certificate);
    scene.reloaded("web configuration reloaded").await;
    let new = scene.connect(scene.tls(ring::default_provider(), &[&TLS13])).await.unwrap();
    assert_ne!(certificate_of(&new), certificate_of(&old));
    assert_eq!(certificate_of(&new), CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap());
    let answer = request(&mut old, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A client's side of TLS with a certificate of its own, which remembers sessions.
fn tls_with_identity(scene: &Scene, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    let (certificate, key) = scene.authority.issue("client");
    tls_of(scene, version, &certificate, &key)
}

fn tls_of(
    scene: &Scene,
    version: &'static rustls::SupportedProtocolVersion,
    certificates: &str,
    key: &str,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(scene.authority.1.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
    let certificates = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect::<Result<_, _>>().unwrap();
    builder.with_client_auth_cert(certificates, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
}

const CLIENTS: &str = "tls_server_config: { cert_file: server.crt, key_file: server.key, \
    client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt }\n";

const KEPT_ALIVE: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

/// Asks on a connection that stays open.
async fn is_answered(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut answer = Vec::new();
    stream.write_all(KEPT_ALIVE).await.unwrap();
    stream.read_buf(&mut answer).await.unwrap();
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn a_session_with_a_client_certificate_is_never_resumed() {
    for version in [&TLS12, &TLS13] {
        let scene = Scene::start(CLIENTS, &[]).await;
        let config = tls_with_identity(&scene, version);
        for _ in 0..3 {
            let mut stream = scene.connect(config.clone()).await.unwrap();
            // In TLS 1.3 the tickets come behind the handshake.
            assert!(is_answered(&mut stream).await);
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn a_kept_connection_ends_when_its_clients_authority_is_taken_out() {
    let mut scene = Scene::start(CLIENTS, &[]).await;
    let mut kept = scene.connect(tls_with_identity(&scene, &TLS13)).await.unwrap();
    assert!(is_answered(&mut kept).await);
    scene.write("ca.crt", &Authority::new().1);
    scene.reloaded("web configuration reloaded").await;
    let ended = tokio::time::timeout(PATIENCE, kept.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "it ends");
}

#[tokio::test]
async fn a_kept_connection_ends_when_tls_or_a_newer_version_of_it_is_required() {
    let mut scene = Scene::start("", &[]).await;
    let mut plain = TcpStream::connect(scene.exporter.url.strip_prefix("http://").unwrap()).await.unwrap();
    plain.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(plain.read_u8().await.unwrap(), b'H');
    scene.write("web.yml", TLS);
    scene.reloaded("web configuration reloaded").await;
    let ended = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "the plain one ends");
    let mut old = scene.connect(scene.tls(ring::default_provider(), &[&TLS12])).await.unwrap();
    assert!(is_answered(&mut old).await);
    scene.write("web.yml", &TLS.replace("{ ", "{ min_version: TLS13, "));
    scene.reloaded("web configuration reloaded").await;
    let ended = tokio::time::timeout(PATIENCE, old.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "the old one ends");
}

#[tokio::test]
async fn a_kept_connection_ends_when_a_certificate_of_its_client_expires() {
    let scene = Scene::start(CLIENTS, &[]).await;
    for is_its_own in [true, false] {
        let (short, short_key) = scene.authority.issue_for("client", Duration::from_secs(3));
        let (long, long_key) = scene.authority.issue("client");
        let (chain, key) = if is_its_own { (short, short_key) } else { (long + &short, long_key) };
        let mut kept = scene.connect(tls_of(&scene, &TLS13, &chain, &key)).await.unwrap();
        assert!(is_answered(&mut kept).await);
        let ended = tokio::time::timeout(PATIENCE, kept.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it ends");
    }
}

#[tokio::test]
async fn a_bad_change_keeps_what_was_and_is_logged_and_counted() {
    let users = |password: &str| format!("{TLS}basic_auth_users: {{ alice: \"{}\" }}", bcrypt(password));
    let mut scene = Scene::start(&users("first"), &[]).await;
    let get = async |scene: &Scene, password: &str| {
        let request = scene.client(None).get(scene.url("/metrics")).basic_auth("alice", Some(password));
        Page::of(request.send().await.unwrap()).await
    };
    // An emptied file and one without its users would open what is closed.
    for bad in [
        "",
        TLS,
        "basic_auth_users: {",
        "tls_server_config: { cert_file: server.crt, key_file: nowhere }",
        "unknown: 1",
    ] {
        scene.write("web.yml", bad);
        scene.reloaded("web configuration reload failed").await;
        assert_eq!(get(&scene, "first").await.status, 200, "{bad}");
    }
    // The exporter's own metrics may lag by a second.
    let failures = "koodrive_exporter_web_config_reload_failures_total";
    while get(&scene, "first").await.value(failures) < Some(5.0) {}
    let page = get(&scene, "first").await;
    assert_eq!(page.value(failures), Some(5.0));
    assert_eq!(page.value("koodrive_exporter_web_config_last_reload_successful"), Some(0.0));
    scene.write("web.yml", &users("second"));
    scene.reloaded("web configuration reloaded").await;
    assert_eq!(get(&scene, "first").await.status, 401);
    let page = get(&scene, "second").await;
    assert_eq!(page.status, 200);
    while get(&scene, "second").await.value("koodrive_exporter_web_config_last_reload_successful") != Some(1.0) {}
}

#[tokio::test]
async fn health_needs_no_password_unless_it_is_configured_so() {
    let web = format!("basic_auth_users: {{ alice: \"{}\" }}", bcrypt("pw"));
    for (environment, expected) in [("true", 200), ("false", 401)] {
        let (files, upstream) = (Files::new(), Upstream::start(1).await);
        let (web, config) = (files.write("web.yml", &web), files.write("k.yml", upstream.configuration("1m")));
        let mut command = crate::support::binary();
        command
            .args(["--web.listen-address", "127.0.0.1:0", "--web.config.file", web.to_str().unwrap(), "--config.file"])
            .arg(config)
            .env("KOODRIVE_EXPORTER__WEB__HEALTH_WITHOUT_PASSWORD", environment);
        let mut exporter = Exporter::spawn(&mut command).await;
        exporter.line(|line| line.contains("polling")).await;
        for path in ["/-/healthy", "/health"] {
            assert_eq!(exporter.get(path).await.status, expected);
        }
        assert_eq!(exporter.get("/-/ready").await.status == 401, expected == 401);
        let denied = exporter.get("/metrics").await;
        assert_eq!(
            (denied.status, denied.header("www-authenticate")),
            (401, "Basic realm=\"koodrive-exporter\", charset=\"UTF-8\"")
        );
        assert_eq!(exporter.get("/nonexistent").await.status, 401, "what there is, is not told either");
        let json = client().get(format!("{}/health", exporter.url)).header("accept", "application/json");
        let anonymous = json.try_clone().unwrap().send().await.unwrap().text().await.unwrap();
        assert!(!anonymous.contains("accounts"), "{anonymous}");
        let known = json.basic_auth("alice", Some("pw")).send().await.unwrap().text().await.unwrap();
        assert!(known.contains("\"accounts\":{\"production\""), "{known}");
    }
}

/// Writes all of `text`, and reads to the end.
pub async fn request(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin), text: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer that closes without its TLS farewell is no failure here.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
