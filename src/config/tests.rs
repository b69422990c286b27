//! What the configuration takes and what it refuses, at the bounds, and what it comes to.

use std::{fmt::Debug, fs, sync::Arc, time::Duration};

use exporter_toolkit::{ListenAddress, UnixSocket};
use koodrive::{Credential, Proxy, Secret, SecretSource};
use tracing::Level;

use super::{Config, Document, LogFormat, Overrides, Setting, Sources};
use crate::{
    account::{Account, PollPolicy},
    shard::Shard,
};

const TOKEN: &str = "{ type: token, token: t }";

/// This and one account.
fn with_account(yaml: &str) -> String {
    format!("{yaml}\naccounts: {{ a: {{ user_id: \"1\", auth: {TOKEN} }} }}")
}

/// One account in which this stands.
fn account_with(yaml: &str) -> String {
    format!("accounts: {{ a: {{ user_id: \"1\", {yaml} }} }}")
}

fn load(yaml: &str) -> Result<Config, String> {
    let document = Some(Document::BuiltIn(yaml.to_owned()));
    let sources = Sources { document, environment: Vec::new(), overrides: Overrides::default() };
    Config::load(&sources).map_err(|problems| problems.to_string())
}

fn account(yaml: &str) -> Account {
    Account::clone(&load(yaml).unwrap().accounts[0])
}

/// Each is good, or refused with these words.
fn check(cases: &[(&str, Option<&str>)]) {
    for (yaml, expected) in cases {
        good_or_refused(yaml, load(yaml), *expected);
    }
}

/// What was loaded where it is good, which it is unless it is refused with the expected words.
fn good_or_refused<T: Debug>(what: &str, loaded: Result<T, String>, expected: Option<&str>) -> Option<T> {
    match (loaded, expected) {
        (Ok(loaded), None) => Some(loaded),
        (Err(problems), Some(words)) if problems.contains(words) => None,
        (loaded, expected) => panic!("{what}: {loaded:?} and not {expected:?}"),
    }
}

/// Each value of the key is good, or refused with these words.
fn check_values(key: &str, cases: &[(&str, Option<&str>)]) {
    for (value, expected) in cases {
        check(&[(&with_account(&key.replace("VALUE", value)), *expected)]);
    }
}

#[test]
fn numbers_are_taken_within_their_bounds() {
    let polls = Some("must be a number of polls from 1 to 10000");
    check_values("poll: { concurrency: VALUE }", &[("0", polls), ("1", None), ("10000", None), ("10001", polls)]);
    let requests = Some("must be a number of requests from 0 (unlimited) to 100000");
    check_values("web: { max_requests: VALUE }", &[("0", None), ("100000", None), ("100001", requests)]);
    let connections = Some("must be a number of connections from 1 to 100000");
    let cases = [("0", connections), ("1", None), ("100000", None), ("100001", connections)];
    check_values("web: { max_connections: VALUE }", &cases);
    let shards = Some("must be a number of shards from 1 to 10000");
    let cases = [("0", shards), ("1", None), ("10000", None), ("10001", shards)];
    check_values("shard: { index: 0, count: VALUE }", &cases);
    let below = Some("shard.index: must be below shard.count");
    check_values("shard: { index: VALUE, count: 2 }", &[("1", None), ("2", below), ("x", Some("or hostname"))]);
    check_values("shard: { VALUE: 1 }", &[("count", Some("shard.index: is missing")), ("index", Some("shard.count"))]);
    assert_eq!(load(&with_account("web: { max_requests: 0 }")).unwrap().web.options.max_requests, None);
    assert_eq!(load(&with_account("web: { max_requests: 7 }")).unwrap().web.options.max_requests, Some(7));
}

#[test]
fn lengths_of_time_have_a_unit_and_are_above_zero_and_up_to_a_year() {
    let app = |interval: &str| {
        format!("poll: {{ interval: {interval} }}\n{}", account_with("auth: { type: app, app_id: i, app_secret: s }"))
    };
    let shape = Some("must be a duration above zero with its unit");
    let year: u64 = 366 * 24 * 60 * 60 * 1000;
    for (interval, expected) in [
        ("0s".to_owned(), shape),
        ("5".to_owned(), shape),
        ("-5s".to_owned(), shape),
        ("soon".to_owned(), shape),
        ("1ms".to_owned(), None),
        (format!("{year}ms"), None),
        (format!("{}ms", year + 1), Some("must be at most a year")),
        ("99999999999999999h".to_owned(), shape),
    ] {
        check(&[(&app(&interval), expected)]);
    }
    for (interval, minutes) in [("1h30m", 90), ("1d", 24 * 60), ("1w2d", 9 * 24 * 60)] {
        assert_eq!(account(&app(interval)).poll.interval, Duration::from_mins(minutes));
    }
}

#[test]
fn a_timeout_fits_its_interval_and_an_age_outlasts_both() {
    check_values(
        "poll: { interval: 10s, VALUE }",
        &[
            ("timeout: 10s", None),
            ("timeout: 10001ms", Some("poll.timeout: must not be longer than poll.interval")),
            ("timeout: 1s, max_age: 11s", None),
            ("timeout: 1s, max_age: 10999ms", Some("poll.max_age: must be at least poll.interval plus poll.timeout")),
        ],
    );
    let token = Some("must be below 20 minutes with a token");
    check_values("poll: { interval: VALUE }", &[("19m59s", None), ("20m", token), ("21m", token)]);
}

#[test]
fn an_account_inherits_what_goes_with_the_interval_unless_it_has_its_own() {
    let policy = |top: &str, own: &str| {
        account(&format!("poll: {{ {top} }}\n{}", account_with(&format!("poll: {{ {own} }}, auth: {TOKEN}")))).poll
    };
    let seconds = |interval, timeout, max_age| PollPolicy {
        interval: Duration::from_secs(interval),
        timeout: Duration::from_secs(timeout),
        max_age: Duration::from_secs(max_age),
    };
    let top = "interval: 60s, timeout: 20s, max_age: 10m";
    for (top, own, expected) in [
        ("", "", seconds(60, 10, 180)),
        ("interval: 5s", "", seconds(5, 5, 15)),
        (top, "", seconds(60, 20, 600)),
        (top, "interval: 30s", seconds(30, 20, 90)),
        (top, "interval: 5s", seconds(5, 5, 15)),
        (top, "timeout: 30s", seconds(60, 30, 600)),
        (top, "max_age: 5m", seconds(60, 20, 300)),
        (top, "interval: 90s, timeout: 1s, max_age: 2m", seconds(90, 1, 120)),
    ] {
        assert_eq!(policy(top, own), expected, "{top} / {own}");
    }
}

#[test]
fn an_alias_is_a_name_of_up_to_128_characters() {
    let alias = |alias: &str| format!("accounts: {{ \"{alias}\": {{ user_id: \"1\", auth: {TOKEN} }} }}");
    let refusal = Some("must be a name of 1 to 128 characters, none of them a control character");
    check(&[
        (&alias("ü"), None),
        (&alias(&"ü".repeat(128)), None),
        (&alias(&"ü".repeat(129)), refusal),
        (&alias(""), refusal),
        (&alias("a\\u0007"), refusal),
        (
            &alias("fin\\u202eance\\u2028x"),
            Some("accounts.fin\u{FFFD}ance\u{FFFD}x: must be a name of 1 to 128 characters"),
        ),
    ]);
    assert_eq!(account(&alias("Zoë's")).alias, "Zoë's");
}

#[test]
fn a_credential_has_its_kind_and_one_form_of_its_secret() {
    for (auth, expected) in [
        ("{}", Some("auth.type: is missing")),
        ("{ type: other }", Some("auth.type: must be app or token")),
        ("{ type: token }", Some("auth.token_file: is missing (or auth.token, for the secret itself)")),
        ("{ type: token, token: a, token_file: b }", Some("auth.token: and auth.token_file are mutually exclusive")),
        ("{ type: token, token: \"\" }", Some("auth.token: is empty")),
        ("{ type: token, token: 5 }", Some("auth.token: must be a string")),
        ("{ type: token, token_file: \"a\\tb\" }", Some("auth.token_file: must be a path, and looks like a secret")),
        (
            "{ type: token, token_file: \"-----BEGIN X\" }",
            Some("auth.token_file: must be a path, and looks like a secret"),
        ),
        ("{ type: app, app_secret: s }", Some("auth.app_id: is missing")),
        ("{ type: app, app_id: i }", Some("auth.app_secret_file: is missing")),
        (
            "{ type: token, token: t, tokn_prefix: x }",
            Some("a.auth.tokn_prefix: is not a known key; known here: type, token, token_file"),
        ),
        ("{ type: token, token: t, bogus: x }", Some("a.auth.bogus: is not a known key")),
        ("{ type: token, token: t, correcthorse }", Some("a.auth: has an unknown key")),
        ("{ typ: token, token: t }", Some("a.auth.typ: is not a known key; known here: type, app_id")),
        (
            "{ type: token, token: t, hunter2: x }",
            Some("a.auth: has an unknown key; known here: type, token, token_file"),
        ),
    ] {
        check(&[(&account_with(&format!("auth: {auth}")), expected)]);
    }
    // Without a kind, nothing can be said of the other keys.
    assert_eq!(load(&account_with("auth: { token: t }")).unwrap_err().lines().count(), 1);
    let credential = |auth: &str| account(&account_with(&format!("auth: {auth}"))).api.credential.clone();
    for prefix in ["Bearer ", "Bearer+", ""] {
        let token = credential(&format!("{{ type: token, token: t, token_prefix: \"{prefix}\" }}"));
        assert_eq!(
            token,
            Credential::Token { token: Secret::inline("auth.token", "t").unwrap(), prefix: prefix.to_owned() }
        );
    }
    check(&[(&account_with("auth: { type: token, token: t, token_prefix: x }"), Some("must be \"Bearer \""))]);
    assert_eq!(
        credential("{ type: token, token_file: b }").secret(),
        &Secret { key: "auth.token_file", source: SecretSource::File { path: "b".into(), is_absolute: false } }
    );
    assert_eq!(
        credential("{ type: app, app_id: i, app_secret_file: /b }").secret(),
        &Secret { key: "auth.app_secret_file", source: SecretSource::File { path: "/b".into(), is_absolute: true } }
    );
}

#[test]
fn a_proxy_is_a_url_or_none_and_a_plain_endpoint_has_none() {
    let proxy = |yaml: &str| account(&with_account(yaml)).api.transport.proxy.clone();
    assert_eq!(proxy(""), Proxy::Direct);
    assert_eq!(proxy("http: { proxy_url: none }"), Proxy::Direct);
    for url in ["http://p.example:3128/", "https://p.example/"] {
        assert_eq!(proxy(&format!("http: {{ proxy_url: \"{url}\" }}")), Proxy::Url(url.parse().unwrap()));
    }
    let url = "http: { proxy_url: \"http://p.example\" }\nendpoint: \"http://127.0.0.1:1\"";
    assert_eq!(proxy(url), Proxy::Direct);
    let refusal = Some("must be a URL such as http://proxy.example:3128, or none");
    check_values("http: { proxy_url: \"VALUE\" }", &[("ftp://p.example", refusal), ("http:", refusal), ("x", refusal)]);
}

#[test]
fn levels_formats_and_switches_are_those_that_are_named() {
    let log = |yaml: &str| load(&with_account(&format!("log: {{ {yaml} }}"))).unwrap().log;
    for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
        assert_eq!(log(&format!("level: {}", level.as_str().to_lowercase())).level, level);
    }
    assert_eq!((log("").level, log("").format), (Level::INFO, LogFormat::Logfmt));
    assert_eq!((log("format: json").format, log("format: logfmt").format), (LogFormat::Json, LogFormat::Logfmt));
    let switch = |value: &str| load(&with_account(&format!("auto_reload: {value}"))).unwrap().auto_reload;
    assert_eq!((switch("true"), switch("false"), load(&with_account("")).unwrap().auto_reload), (true, false, false));
    check_values("auto_reload: VALUE", &[("maybe", Some("auto_reload: must be true or false"))]);
    check_values("log: { level: VALUE }", &[("fatal", Some("must be one of error, warn, info, debug, trace"))]);
}

#[test]
fn paths_of_pages_leave_those_of_health_alone() {
    let refusal = Some("must be a path such as /metrics, and none of /, /health and /-/...");
    let cases = ["/", "/health", "/-/m", "m", "/m?a", "\"\""].map(|path| (path, refusal));
    check_values("web: { telemetry_path: VALUE }", &cases);
    check_values("web: { telemetry_path: VALUE }", &[("/m", None), ("/healthy", None), ("/-m", None)]);
    let paths = |yaml: &str| load(&with_account(&format!("web: {{ {yaml} }}"))).unwrap().web.options.paths;
    let behind_proxy = paths("external_url: \"https://example.org/koodrive/\"");
    assert_eq!(
        (behind_proxy.prefix.as_str(), behind_proxy.links.as_str()),
        ("/koodrive", "https://example.org/koodrive")
    );
    let stripped = paths("external_url: \"https://example.org/koodrive/\", route_prefix: /");
    assert_eq!((stripped.prefix.as_str(), stripped.links.as_str()), ("", "https://example.org/koodrive"));
    let prefixed = paths("route_prefix: /a/");
    assert_eq!(
        (prefixed.landing_page().as_str(), prefixed.links.as_str(), prefixed.telemetry.as_str()),
        ("/a/", "/a", "/metrics")
    );
}

#[test]
fn addresses_are_a_list_or_a_text_with_commas_and_a_socket_has_its_settings() {
    let addresses = |value: &str| load(&with_account(&format!("web: {{ listen_addresses: {value} }}"))).unwrap();
    let two = vec![ListenAddress::Tcp("127.0.0.1:1".parse().unwrap()), ListenAddress::Tcp("[::1]:2".parse().unwrap())];
    assert_eq!(addresses("[\"127.0.0.1:1\", \"[::1]:2\"]").web.options.listen_addresses, two);
    assert_eq!(addresses("\"127.0.0.1:1, [::1]:2\"").web.options.listen_addresses, two);
    let socket = UnixSocket { path: "/k".into(), mode: Some(0o777), owner: Some(0), group: Some(12) };
    let parsed = addresses("[\"unix:/k?mode=777&owner=root&group=12\"]").web.options.listen_addresses;
    assert_eq!(parsed, [ListenAddress::Unix(socket)]);
    check_values(
        "web: { listen_addresses: [VALUE] }",
        &[
            ("", Some("is empty: at least one address is needed")),
            ("\"unix:/k?mode=1000\"", Some("has a mode that is not octal")),
            ("\"unix:/k?mode=8\"", Some("has a mode that is not octal")),
            ("\"unix:/k?owner=nobody-of-that-name\"", Some("has an owner that does not exist on this host")),
            ("\"unix:/k?group=nobody-of-that-name\"", Some("has a group that does not exist on this host")),
            ("\"unix:/k?colour=red\"", Some("has a setting that is none of mode, owner and group")),
        ],
    );
    check_values("web: { listen_addresses: VALUE }", &[("{ a: b }", Some("must be a list"))]);
}

#[test]
fn an_exporter_polls_the_accounts_of_its_shard() {
    let accounts: Vec<_> = (0..9).map(|n| format!("  n{n}: {{ user_id: \"1\", auth: {TOKEN} }}\n")).collect();
    let config = load(&format!("accounts:\n{}", accounts.concat())).unwrap();
    let own = config.accounts_of(Some(Shard::new(1, 3).unwrap()));
    assert!(!own.is_empty() && own.len() < 9);
    assert!(own.iter().all(|account| Shard::new(1, 3).unwrap().owns(&account.alias)));
    assert_eq!(config.accounts_of(None), config.accounts);
}

#[test]
fn certificates_that_all_accounts_trust_are_in_memory_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem()).unwrap();
    let account = format!("user_id: \"1\", auth: {TOKEN}");
    let yaml =
        format!("http: {{ ca_file: \"{}\" }}\naccounts: {{ a: {{ {account} }}, b: {{ {account} }} }}", path.display());
    let config = load(&yaml).unwrap();
    let [a, b] = [0, 1].map(|index: usize| &config.accounts[index].api.transport.extra_roots);
    assert!(Arc::ptr_eq(a, b) && !a.is_empty());
}

#[test]
fn a_files_content_and_what_it_names_are_read_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let explain = |yaml: &str| {
        let path = write("k.yml", yaml);
        let sources = Sources { document: Some(Document::File(path.clone())), ..Sources::default() };
        assert_eq!((sources.file(), sources.file_content().as_deref()), (Some(&*path), Some(yaml.as_bytes())));
        Config::explain(&sources).map_err(|problems| problems.to_string())
    };
    let root = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    write("good.pem", &root);
    write("half.pem", &format!("{root}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    write("none.pem", "");
    let (config, settings) = explain(&with_account("http: { ca_file: good.pem }")).unwrap();
    assert_eq!(*config.accounts[0].api.transport.extra_roots, *root.as_bytes());
    let value = |settings: &[Setting], key: &str| {
        settings
            .iter()
            .find(|setting| setting.key == key)
            .map(|setting| (setting.value.clone(), setting.origin.clone()))
    };
    let file = |line: u8| format!("file {}:{line}", folder.path().join("k.yml").display());
    assert_eq!(value(&settings, "accounts.a.http.ca_file"), Some(("given".to_owned(), file(1))));
    for bad in ["half.pem", "none.pem"] {
        let problems = explain(&with_account(&format!("http: {{ ca_file: {bad} }}"))).unwrap_err();
        assert!(problems.contains("http.ca_file: must contain PEM certificates"), "{bad}: {problems}");
    }
    write("secret", "s");
    let yaml = "poll: { timeout: 7s }\naccounts:\n  there: { user_id: \"1\", poll: { interval: 9s }, auth: { type: token, \
                token_file: secret } }\n  gone: { user_id: \"1\", auth: { type: token, token_file: gone } }\n  often: { user_id: \"1\", poll: { interval: 5s }, \
                auth: { type: token, token: t } }\n";
    let settings = explain(yaml).unwrap().1;
    let there = folder.path().join("secret").display().to_string();
    assert_eq!(value(&settings, "accounts.there.auth.token_file"), Some((there, file(3))));
    assert_eq!(
        value(&settings, "accounts.gone.auth.token_file"),
        Some((format!("a file in {} (no such file)", folder.path().display()), file(4)))
    );
    // A timeout is inherited as far as it fits the interval.
    assert_eq!(value(&settings, "accounts.gone.poll.timeout"), Some(("7s".to_owned(), file(1))));
    assert_eq!(value(&settings, "accounts.there.poll.timeout"), Some(("7s".to_owned(), file(1))));
    assert_eq!(value(&settings, "accounts.often.poll.timeout"), Some(("5s".to_owned(), "default".to_owned())));
    assert_eq!(value(&settings, "accounts.there.poll.max_age"), Some(("27s".to_owned(), "default".to_owned())));
    assert_eq!(value(&settings, "web.external_url"), Some(("none".to_owned(), "default".to_owned())));
    let settings = explain(&with_account("web: { external_url: \"https://e.example/\" }")).unwrap().1;
    assert_eq!(value(&settings, "web.external_url").unwrap().0, "https://e.example");
    assert_eq!(Sources::default().file_content(), None);
}

#[test]
fn a_problem_of_two_keys_stands_at_the_line_of_its_own_and_a_key_has_no_dot() {
    let folder = tempfile::tempdir().unwrap();
    let problems = |yaml: &str| {
        let path = folder.path().join("k.yml");
        fs::write(&path, yaml).unwrap();
        let sources = Sources { document: Some(Document::File(path)), ..Sources::default() };
        Config::load(&sources).unwrap_err().to_string().replace(&folder.path().display().to_string(), "")
    };
    let account = |own: &str| format!("accounts:\n  a:\n    user_id: \"1\"\n    auth: {TOKEN}\n{own}");
    let too_long = problems(&account("    poll:\n      interval: 10s\n      timeout: 20s\n"));
    assert_eq!(too_long, "/k.yml:7: accounts.a.poll.timeout: must not be longer than poll.interval");
    let dotted = problems(&account("    poll.timeout: 5s\n"));
    assert!(dotted.starts_with("/k.yml:5: accounts.a: has an unknown key; known here: endpoint, language, poll,"));
    let scalar = problems(&account("poll: 5\n"));
    assert_eq!(scalar, "/k.yml:5: poll: must be a map of keys");
}

#[test]
fn a_map_is_no_value_and_a_value_no_map() {
    check(&[
        (&with_account("poll: { interval: { a: b } }"), Some("poll.interval: must be a single value")),
        (&with_account("poll: 5"), Some("poll: must be a map of keys")),
        (&with_account("poll:\nunits: ~"), None),
        (&with_account("colour: red"), Some("colour: is not a known key; known here: ")),
        (&with_account("Colour: red"), Some("has an unknown key; known here: ")),
        (&with_account(&format!("{}: red", "c".repeat(32))), Some("cccc: is not a known key")),
        (&with_account(&format!("{}: red", "c".repeat(33))), Some("no configuration file: has an unknown key")),
        (&with_account("shard: { index: x, count: 1, colour: red }"), Some("shard.colour: is not a known key")),
        ("accounts: {}", Some("accounts: is empty")),
        ("language: en-US", Some("accounts: is missing")),
    ]);
}
