//! What the web configuration file may say, and what does not fit together.

use std::{fmt::Debug, fs};

use rustls::CipherSuite;

use super::*;

/// What was loaded where it is good, which it is unless it is refused with the expected words.
fn good_or_refused<T: Debug>(what: &str, loaded: Result<T, String>, expected: Option<&str>) -> Option<T> {
    match (loaded, expected) {
        (Ok(loaded), None) => Some(loaded),
        (Err(problems), Some(words)) if problems.contains(words) => None,
        (loaded, expected) => panic!("{what}: {loaded:?} and not {expected:?}"),
    }
}

/// A web configuration file beside a certificate and its key.
fn web_file(folder: &Path, yaml: &str) -> Result<WebConfig, String> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("c"), certified.cert.pem() + &certified.cert.pem()).unwrap();
    fs::write(folder.join("k"), certified.signing_key.serialize_pem()).unwrap();
    let path = folder.join("web.yml");
    fs::write(&path, yaml).unwrap();
    WebConfig::load(&path).map_err(|problems| problems.to_string())
}

/// TLS with these settings beside certificate and key.
fn tls(folder: &Path, more: &str) -> Result<TlsServer, String> {
    let yaml = format!("tls_server_config: {{ cert_file: c, key_file: k, {more} }}");
    web_file(folder, &yaml).map(|file| file.tls.unwrap())
}

#[test]
fn what_is_asked_of_clients_fits_together() {
    let folder = tempfile::tempdir().unwrap();
    let load = |more: &str| tls(folder.path(), more);
    let no_requirement = Some("client_allowed_sans: needs client_auth_type");
    let no_type = Some("client_auth_type: is missing");
    for (kind, parsed, alone, with_ca, with_sans) in [
        ("\"\"", ClientAuth::NoClientCert, None, no_type, no_requirement),
        ("NoClientCert", ClientAuth::NoClientCert, None, no_type, no_requirement),
        ("RequestClientCert", ClientAuth::RequestClientCert, None, None, no_requirement),
        ("RequireAnyClientCert", ClientAuth::RequireAnyClientCert, None, None, None),
        ("RequireClientCert", ClientAuth::RequireAnyClientCert, None, None, None),
        ("VerifyClientCertIfGiven", ClientAuth::VerifyClientCertIfGiven, None, None, no_requirement),
        ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerifyClientCert, None, None, None),
    ] {
        for (more, expected) in
            [("", alone), (", client_ca_file: c", with_ca), (", client_allowed_sans: [a]", with_sans)]
        {
            let yaml = format!("client_auth_type: {kind}{more}");
            let good = good_or_refused(&yaml, load(&yaml), expected);
            assert!(good.is_none_or(|tls| tls.client_auth == parsed), "{yaml}");
        }
    }
    let of_system = web_file(
        folder.path(),
        "tls_server_config: { cert_file: c, key_file: k, client_auth_type: VerifyClientCertIfGiven }",
    );
    assert!(of_system.unwrap().warnings()[0].contains("of any authority that the system trusts"));
    assert!(load("client_auth_type: Other").unwrap_err().contains("must be NoClientCert"));
    let sans = load("client_auth_type: RequireAnyClientCert, client_allowed_sans: [a.example, 192.0.2.1]").unwrap();
    let allowed = [AllowedSan::Text("a.example".to_owned()), AllowedSan::Ip([192, 0, 2, 1].into())];
    assert_eq!((sans.client_allowed_sans.as_deref(), sans.certificates.len()), (Some(&allowed[..]), 2));
}

#[test]
fn versions_and_suites_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let load = |more: &str| tls(folder.path(), more);
    let (of_13, of_12) = ("TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    for (more, expected) in [
        ("min_version: TLS13, max_version: TLS12".to_owned(), Some("max_version: is below min_version")),
        ("min_version: TLS12, max_version: TLS12".to_owned(), None),
        ("min_version: TLS11".to_owned(), Some("min_version: is deprecated (RFC 8996)")),
        ("min_version: SSL".to_owned(), Some("min_version: must be TLS12 or TLS13")),
        (format!("max_version: TLS12, cipher_suites: [{of_13}]"), Some("cipher_suites: lists suites of TLS 1.3 alone")),
        (format!("max_version: TLS12, cipher_suites: [{of_13}, {of_12}]"), None),
        (format!("max_version: TLS13, cipher_suites: [{of_13}]"), None),
        ("max_version: TLS12, cipher_suites: []".to_owned(), None),
        ("cipher_suites: [TLS_NULL]".to_owned(), Some("cipher_suites: must be one of those supported")),
        ("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]".to_owned(), Some("cipher_suites: lists no supported value")),
        ("curve_preferences: [CurveP521]".to_owned(), Some("curve_preferences: lists no supported value")),
        ("curve_preferences: [P-521]".to_owned(), Some("must be one of those supported: X25519")),
        ("cert: x".to_owned(), Some("cert: holds no PEM of a certificate")),
    ] {
        good_or_refused(&more, load(&more), expected);
    }
    let go =
        format!("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, {of_12}], curve_preferences: [X25519, CurveP521]");
    let go = web_file(folder.path(), &format!("tls_server_config: {{ cert_file: c, key_file: k, {go} }}")).unwrap();
    assert_eq!(
        go.warnings(),
        ["tls_server_config lists unsupported cipher suites or curves: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, CurveP521"]
    );
    let usual = load("").unwrap();
    assert_eq!((usual.versions, usual.cipher_suites.len()), ((TlsVersion::Tls12, TlsVersion::Tls13), 0));
    assert!(usual.prefer_server_cipher_suites && usual.curves.is_empty());
    let chosen =
        load(&format!("min_version: TLS13, cipher_suites: [{of_12}], prefer_server_cipher_suites: false")).unwrap();
    assert_eq!(chosen.cipher_suites, [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    assert!(chosen.versions == (TlsVersion::Tls13, TlsVersion::Tls13) && !chosen.prefer_server_cipher_suites);
}

#[test]
fn the_rest_of_the_web_file_is_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let load = |yaml: &str| web_file(folder.path(), yaml);
    for nothing in ["", "# none\n\n", "http_server_config: {}"] {
        let file = load(nothing).unwrap();
        assert!(file.tls.is_none() && file.users.is_empty() && file.http2 && file.rate_limit.is_none(), "{nothing}");
    }
    let of_cost_4 = bcrypt::hash("hunter2", 4).unwrap();
    let hash = |cost: u32| {
        format!("basic_auth_users: {{ a: \"{}\" }}", of_cost_4.replacen("$04$", &format!("${cost:02}$"), 1))
    };
    assert_eq!(load(&hash(5)).unwrap().users["a"].cost(), 5);
    assert_eq!(load(&hash(16)).unwrap().warnings(), [""; 0]);
    let warning =
        "basic_auth_users has a bcrypt cost of 17 for \"a\": a check takes longer than a scrape, use a cost of 10";
    assert_eq!(load(&hash(17)).unwrap().warnings(), [warning]);
    for cost in [0, 3, 32, 99] {
        assert!(load(&hash(cost)).unwrap_err().contains("is no bcrypt hash"), "{cost}");
    }
    assert!(load(&hash(5).replace("a: ", "\"a:b\": ")).unwrap_err().contains("contains a colon"));
    assert!(load("basic_auth_users: { a: hunter2 }").unwrap_err().contains("is no bcrypt hash"));
    let limit = |yaml: &str| load(&format!("rate_limit: {{ {yaml} }}")).map(|file| file.rate_limit);
    let one = RateLimit { interval: Duration::from_secs(2), burst: 1 };
    assert_eq!(
        (limit("interval: 2s, burst: 1"), limit("interval: 0s"), limit("burst: 1")),
        (Ok(Some(one)), Ok(None), Ok(None))
    );
    assert!(limit("interval: x, colour: red").unwrap_err().contains("rate_limit.colour: is not a known key"));
    assert!(limit("interval: 2s").unwrap_err().contains("rate_limit.burst: is missing"));
    assert!(limit("interval: 2s, burst: 0").unwrap_err().contains("rate_limit.burst: must be at least 1"));
    let headers = |yaml: &str| load(&format!("http_server_config: {{ http2: false, headers: {{ {yaml} }} }}"));
    let file = headers("X-Frame-Options: DENY, Content-Security-Policy: \"\"").unwrap();
    assert_eq!((file.headers.len(), file.headers[0].0.as_str(), file.http2), (1, "x-frame-options", false));
    assert!(headers("X-Frame-Options: maybe").unwrap_err().contains("with a value that is not deny or sameorigin"));
    assert!(headers("Server: x").unwrap_err().contains("has a header that cannot be set"));
}
