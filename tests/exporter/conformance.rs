//! The cases of Go's exporter-toolkit (`web/tls_config_test.go`) by their names there, with files of our own: which web
//! configuration files are taken, and what their clients get. `crates/exporter-toolkit/README.md` has the differences.

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use crate::{
    access::{Scene, TLS},
    hostile::Authority,
    support::{Exporter, Files, Upstream, run, stderr},
};

/// What becomes of a file.
#[derive(Clone, Copy)]
enum Outcome {
    /// It is taken without a word.
    Good,
    /// It is taken, with a warning that has these words. Go takes it without.
    Warning(&'static str),
    /// It is refused with these words.
    Refused(&'static str),
    /// It is refused, and Go takes it.
    Differs(&'static str),
}
use Outcome::{Differs, Good, Refused, Warning};

const OF_SYSTEM: Outcome = Warning("of any authority that the system trusts");

/// Names of Go's cases, or of its files where no case has them; what stands in the file; and what becomes of it.
const FILES: [(&str, &str, Outcome); 40] = [
    ("empty config yml", "", Good),
    ("invalid config yml (invalid structure)", "one\ntwo\nthree\n", Refused("web.yml")),
    ("invalid config yml (invalid key)", "tls_server_config: { cert_filse: server.crt }", Refused("cert_filse")),
    ("cert path empty", "tls_server_config: { cert_file: '', key_file: server.key }", Refused("cert_file: is missing")),
    ("cert empty", "tls_server_config: { cert: '', key_file: server.key }", Refused("cert")),
    ("key path empty", "tls_server_config: { cert_file: server.crt, key_file: '' }", Refused("key_file: is missing")),
    ("key empty", "tls_server_config: { cert_file: server.crt, key: '' }", Refused("key")),
    (
        "cert path and key path empty",
        "tls_server_config: { cert_file: '', key_file: '', client_auth_type: x }",
        Refused("client_auth_type"),
    ),
    ("cert path invalid", "tls_server_config: { cert_file: somefile, key_file: server.key }", Refused("No such file")),
    ("key path invalid", "tls_server_config: { cert_file: server.crt, key_file: somefile }", Refused("No such file")),
    (
        "cert path and key path invalid",
        "tls_server_config: { cert_file: somefile, key_file: somefile }",
        Refused("No such file"),
    ),
    (
        "invalid ClientAuth",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt }",
        Refused("client_auth_type: is missing"),
    ),
    (
        "invalid ClientCAs filepath",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: somefile }",
        Refused("No such file"),
    ),
    (
        "clientCAs_missing",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: RequireAndVerifyClientCert }",
        OF_SYSTEM,
    ),
    ("invalid user list", "basic_auth_users: { john: doe }", Refused("is no bcrypt hash")),
    (
        "bad cipher",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048] }",
        Refused("cipher_suites"),
    ),
    (
        "bad curves",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, curve_preferences: [CurveP257] }",
        Refused("curve_preferences"),
    ),
    (
        "bad TLS version",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, min_version: TLS111 }",
        Refused("min_version"),
    ),
    (
        "TLS below 1.2",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, min_version: TLS10 }",
        Differs("min_version: is deprecated (RFC 8996)"),
    ),
    (
        "valid tls config yml",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: VerifyClientCertIfGiven }",
        OF_SYSTEM,
    ),
    (
        "valid tls config yml (RequestClientCert)",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: RequestClientCert }",
        Good,
    ),
    (
        "all ciphers",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA] }",
        Warning("lists unsupported cipher suites"),
    ),
    (
        "some ciphers",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384], min_version: TLS12, max_version: TLS12 }",
        Good,
    ),
    (
        "some ciphers, no order",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256], prefer_server_cipher_suites: false, max_version: TLS12 }",
        Good,
    ),
    (
        "CBC ciphers alone",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA] }",
        Differs("lists no supported value"),
    ),
    (
        "all curves",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, curve_preferences: [CurveP256, CurveP384, CurveP521, X25519] }",
        Warning("CurveP521"),
    ),
    (
        "some curves",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, min_version: TLS13, curve_preferences: [CurveP521] }",
        Differs("lists no supported value"),
    ),
    (
        "non-http2 ciphers",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384], max_version: TLS12 }\nhttp_server_config: { http2: false }",
        Good,
    ),
    // Go's HTTP/2 refuses such a configuration; the suite that RFC 9113 demands is not needed by any client of ours.
    (
        "non-http2 ciphers but http2 enabled",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384], max_version: TLS12 }",
        Good,
    ),
    (
        "valid headers config",
        "http_server_config: { headers: { X-Frame-Options: deny, Strict-Transport-Security: max-age=31536000; includeSubDomains, X-Content-Type-Options: nosniff, X-XSS-Protection: 1, Content-Security-Policy: \"default-src 'self' *.test.example.net\" } }",
        Good,
    ),
    (
        "invalid X-Content-Type-Options headers config",
        "http_server_config: { headers: { X-Content-Type-Options: sniff } }",
        Refused("with a value that is not"),
    ),
    (
        "invalid X-Frame-Options headers config",
        "http_server_config: { headers: { X-Frame-Options: foo } }",
        Refused("with a value that is not"),
    ),
    (
        "HTTP header that can not be overridden",
        "http_server_config: { headers: { Content-Type: foo } }",
        Refused("has a header that cannot be set"),
    ),
    (
        "RequireAnyClientCert",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: RequireAnyClientCert }",
        Good,
    ),
    (
        "RequireAndVerifyClientCert",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt }",
        Good,
    ),
    (
        "client SAN",
        "tls_server_config: { cert_file: server.crt, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt, client_allowed_sans: [good.example] }",
        Good,
    ),
    ("users", "basic_auth_users: { alice: '$2y$04$rGz9w5WNQ4Q1yA8vQv8mEuHk5lRL0s5X7bW5xZ4P1hWw6Vb4rN1tq' }", Good),
    (
        "a cost of 18",
        "basic_auth_users: { alice: '$2y$18$rGz9w5WNQ4Q1yA8vQv8mEuHk5lRL0s5X7bW5xZ4P1hWw6Vb4rN1tq' }",
        Warning("a bcrypt cost of 18"),
    ),
    ("rate limiter that does not block", "rate_limit: { interval: 0s }", Good),
    ("rate limiter without a burst", "rate_limit: { interval: 1s }", Differs("rate_limit.burst: is missing")),
];

#[test]
fn files_of_gos_table_are_taken_or_refused() {
    let (files, authority) = (Files::new(), Authority::new());
    let (certificate, key) = authority.issue("localhost");
    files.write("server.crt", certificate);
    files.write("server.key", key);
    files.write("ca.crt", &authority.1);
    let config = files.write("k.yml", "accounts: { a: { user_id: \"1\", auth: { type: token, token: t } } }\n");
    for (name, yaml, expected) in FILES {
        let web = files.write("web.yml", yaml);
        let arguments = [
            "check".as_ref(),
            "--config.file".as_ref(),
            config.as_os_str(),
            "--web.config.file".as_ref(),
            web.as_os_str(),
        ];
        let output = run(arguments, &[]);
        let (is_good, words) = (output.status.success(), stderr(&output));
        match expected {
            Good => assert!(is_good && words.is_empty(), "{name}: {words}"),
            Warning(expected) => assert!(is_good && words.contains(expected), "{name}: {words}"),
            Refused(expected) | Differs(expected) => assert!(!is_good && words.contains(expected), "{name}: {words}"),
        }
    }
    let nowhere = run(
        [
            "check".as_ref(),
            "--config.file".as_ref(),
            config.as_os_str(),
            "--web.config.file".as_ref(),
            "somefile".as_ref(),
        ],
        &[],
    );
    assert!(stderr(&nowhere).contains("No such file"), "path to config yml invalid");
}

/// The provider with this suite alone.
fn with_suite(suite: CipherSuite) -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    provider
}

#[tokio::test]
async fn clients_of_gos_table_meet_tls_as_there() {
    let plain = Upstream::start(1).await;
    let files = Files::new();
    let without = Exporter::start(&files.write("k.yml", plain.configuration("1m")), &[]).await;
    assert_eq!(without.get("/health").await.status, 200, "empty string YAMLConfigPath and default client");
    let scene = Scene::start(TLS, &[]).await;
    let of_plain = format!("https://localhost:{}/", without.url.rsplit(':').next().unwrap());
    assert!(scene.client(None).get(of_plain).send().await.is_err(), "empty string YAMLConfigPath and TLS client");
    let http = crate::support::client().get(format!("{}/health", scene.exporter.url)).send().await;
    assert!(http.is_err() || !http.unwrap().status().is_success(), "valid tls config yml and default client");
    let https = scene.client(None).get(scene.url("/health")).send().await.unwrap();
    assert_eq!(https.status(), 200, "valid tls config yml and tls client");

    let suites = "tls_server_config: { cert_file: server.crt, key_file: server.key, min_version: TLS12, max_version: TLS12, \
                  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384] }";
    let scene = Scene::start(suites, &[]).await;
    let connect = async |provider| {
        let stream = scene.connect(scene.tls(provider, &[&TLS12])).await.ok()?;
        Some(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite())
    };
    let (first, second) =
        (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    assert_eq!(connect(with_suite(second)).await, Some(second), "some ciphers");
    let other = with_suite(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert_eq!(connect(other).await, None, "no common cipher");
    assert_eq!(connect(ring::default_provider()).await, Some(first), "multiple client ciphers");
    assert!(scene.connect(scene.tls(ring::default_provider(), &[&TLS13])).await.is_err(), "incompatible TLS version");

    let curves = "tls_server_config: { cert_file: server.crt, key_file: server.key, curve_preferences: [CurveP256] }";
    let scene = Scene::start(curves, &[]).await;
    let group = |name| {
        let mut provider = ring::default_provider();
        provider.kx_groups.retain(|group| group.name() == name);
        scene.tls(provider, &[&TLS13])
    };
    assert!(scene.connect(group(rustls::NamedGroup::secp256r1)).await.is_ok(), "some curves");
    assert!(scene.connect(group(rustls::NamedGroup::X25519)).await.is_err(), "no common curves");
}

#[tokio::test]
async fn clients_certificates_and_rate_limits_of_gos_table_are_as_there() {
    let file = |more: &str| format!("tls_server_config: {{ cert_file: server.crt, key_file: server.key, {more} }}");
    let verify = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt";
    for (name, more, own_authority, is_answered) in [
        (
            "RequireAnyClientCert (present certificate)",
            "client_auth_type: RequireAnyClientCert".to_owned(),
            false,
            true,
        ),
        ("RequireAndVerifyClientCert (present certificate)", verify.to_owned(), true, true),
        ("present good SAN DNS entry", format!("{verify}, client_allowed_sans: [client]"), true, true),
        ("present invalid SAN DNS entries", format!("{verify}, client_allowed_sans: [bad.example]"), true, false),
    ] {
        let scene = Scene::start(&file(&more), &[]).await;
        let stranger = Authority::new();
        let authority = if own_authority { &scene.authority } else { &stranger };
        let answer = scene.client(Some(authority.issue("client"))).get(scene.url("/health")).send().await;
        assert_eq!(answer.is_ok(), is_answered, "{name}");
    }
    for (name, limit, limited) in [
        ("no rate limiter set up", "", false),
        ("an interval of one second", "rate_limit: { interval: 1s, burst: 1 }", true),
    ] {
        let scene = Scene::start(&format!("{TLS}{limit}"), &[]).await;
        let http = scene.client(None);
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(http.get(scene.url("/metrics")).send().await.unwrap().status().as_u16());
        }
        assert_eq!(statuses.contains(&429), limited, "{name}");
    }
}
