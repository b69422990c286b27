//! What the user wrote, right or wrong.

use crate::support::{Exporter, Files, Upstream, run, stderr};

const ACCOUNT: &str = "accounts: { a: { user_id: \"1\", auth: { type: token, token: hunter2 } } }";

/// What `check` says of a file, without the folder's name.
fn check_file(name: &str, content: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let files = Files::new();
    let path = files.write(name, content);
    let output = run(["check".as_ref(), "--config.file".as_ref(), path.as_os_str()], environment);
    let folder = path.parent().unwrap().to_str().unwrap();
    (output.status.code(), stderr(&output).replace(&format!("{folder}/"), ""))
}

fn problems(yaml: &str) -> String {
    let (code, text) = check_file("k.yml", yaml, &[]);
    assert_eq!(code, Some(3), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    text
}

#[test]
fn the_example_file_loads() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/koodrive-exporter.yml");
    let output = run(["check", "--config.file", example], &[]);
    assert_eq!(output.status.code(), Some(0));
    let warnings = stderr(&output);
    assert!(warnings.lines().all(|line| line.contains("No such file")), "its secrets are not here: {warnings}");
}

#[test]
fn yaml_toml_and_json_are_distinguished_by_the_extension() {
    let toml = "[accounts.a]\nuser_id = \"1\"\nauth = { type = \"token\", token = \"x\" }";
    let json = r#"{"accounts": {"a": {"user_id": "1", "auth": {"type": "token", "token": "x"}}}}"#;
    for (name, content) in [("k.yml", ACCOUNT), ("k.yaml", ACCOUNT), ("k.toml", toml), ("k.json", json)] {
        assert_eq!(check_file(name, content, &[]), (Some(0), String::new()), "{name}");
    }
    assert_eq!(
        check_file("k.conf", ACCOUNT, &[]),
        (
            Some(3),
            "koodrive-exporter: k.conf: must end in .yml, .yaml, .toml or .json: the extension is its format\n".into()
        )
    );
}

#[test]
fn every_problem_is_reported_at_once_with_its_file_line_and_key() {
    let text = problems(
        "
endpoint: http://example.com
pol: {}
poll: { interval: 0s, concurrency: 0 }
units: { total_used: count }
web: { listen_addresses: [], telemetry_path: /health }
log: { level: loud }
accounts:
  a:
    auth: { type: app, app_secret: hunter2, app_secret_file: x }
  b: { user_id: 1505084218764547200, auth: { type: token, token: hunter2, tokn: hunter2 }, poll: { interval: 20m } }
  d: { user_id: \"1\", hunter2: 1, auth: { type: token, token: x, token:hunter2 } }
  c: { user_id: \"1\" }
",
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_missing_file_is_named() {
    let output = run(["--config.file", "/nonexistent/k.yml"], &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("/nonexistent/k.yml: cannot be read: No such file"), "{}", stderr(&output));
}

#[test]
fn no_file_and_no_environment_says_how_to_give_accounts() {
    let output = binary_in_empty_folder(&[]);
    assert_eq!(output.0, Some(3));
    assert!(output.1.contains("accounts: is missing: at least one account is needed"), "{}", output.1);
}

#[test]
fn broken_yaml_is_reported_by_line_and_never_quoted() {
    let text = problems("accounts:\n  a: { token: hunter2\n");
    assert!(text.contains("k.yml:3: is not valid YAML: see column 1"), "{text}");
}

#[test]
fn an_empty_account_map_is_refused() {
    assert!(problems("accounts: {}").contains("k.yml: accounts: is empty"));
    assert!(problems("poll: { interval: 5s }").contains("k.yml: accounts: is missing"));
}

#[test]
fn a_token_interval_of_20_minutes_is_refused_and_one_second_less_is_not() {
    let with_interval = |interval: &str| format!("poll: {{ interval: {interval} }}\n{ACCOUNT}");
    assert!(problems(&with_interval("20m")).contains("accounts.a.poll.interval: must be below 20 minutes"));
    assert_eq!(check_file("k.yml", &with_interval("19m 59s"), &[]), (Some(0), String::new()));
    let app =
        "poll: { interval: 1h }\naccounts: { a: { user_id: \"1\", auth: { type: app, app_id: i, app_secret: s } } }";
    assert_eq!(check_file("k.yml", app, &[]), (Some(0), String::new()));
}

#[test]
fn values_that_would_vanish_between_polls_are_refused() {
    let with_poll = |poll: &str| format!("poll: {{ {poll} }}\n{ACCOUNT}");
    assert!(problems(&with_poll("interval: 1m, max_age: 1m")).contains("accounts.a.poll.max_age: must be at least"));
    assert!(problems(&with_poll("interval: 5s, timeout: 6s")).contains("accounts.a.poll.timeout: must not be longer"));
    // The default timeout and age follow a short interval.
    assert_eq!(check_file("k.yml", &with_poll("interval: 1s"), &[]).0, Some(0));
}

#[test]
fn an_account_can_come_from_the_environment_alone() {
    let (code, text) = binary_in_empty_folder(&[
        ("KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__USER_ID", "1505084218764547200"),
        ("KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__AUTH__TYPE", "token"),
        ("KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__AUTH__TOKEN", "007"),
        ("KOODRIVE_EXPORTER__WEB__LISTEN_ADDRESSES", "127.0.0.1:1, [::1]:2"),
        ("KOODRIVE_EXPORTER_PORT", "tcp://10.0.0.1:10710"),
    ]);
    assert_eq!((code, text.as_str()), (Some(0), ""));
}

#[test]
fn a_problem_from_the_environment_names_the_variable_and_not_its_value() {
    let (code, text) = binary_in_empty_folder(&[
        ("KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__USER_ID", "hunter2"),
        ("KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__AUTH__TOKEN", "hunter2"),
    ]);
    assert_eq!(code, Some(3));
    assert!(text.contains("environment variable KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__USER_ID: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn an_environment_variable_whose_name_is_no_path_is_refused() {
    let (code, text) = binary_in_empty_folder(&[("KOODRIVE_EXPORTER__WEB__LISTEN_ADDRESSES[99999999999]", "x")]);
    assert_eq!(code, Some(3));
    assert!(text.contains("must be a path of keys joined by __"), "{text}");
}

#[test]
fn a_ca_file_that_holds_no_good_certificate_is_refused_before_the_start() {
    let files = Files::new();
    for content in ["", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n"] {
        files.write("ca.pem", content);
        let path = files.write("k.yml", format!("http: {{ ca_file: ca.pem }}\n{ACCOUNT}"));
        let output = run(["check".as_ref(), "--config.file".as_ref(), path.as_os_str()], &[]);
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains("http.ca_file: must contain PEM certificates"), "{}", stderr(&output));
    }
}

#[test]
fn a_commands_help_shows_the_options_that_concern_it() {
    for (command, shown, hidden) in [
        ("check", "--web.config.file", "--web.max-requests"),
        ("once", "--include-exporter-metrics", "--web."),
        ("healthcheck", "--web.listen-address", "--log."),
        ("demo", "--web.listen-address", "--config.file"),
        ("simulate", "--write-config", "--config.file"),
    ] {
        let help = String::from_utf8(run([command, "--help"], &[]).stdout).unwrap();
        assert!(help.contains(shown) && !help.lines().any(|line| line.trim().starts_with(hidden)), "{help}");
    }
}

#[test]
fn a_wrong_flag_is_a_bad_command_line() {
    assert_eq!(run(["--no-such-flag"], &[]).status.code(), Some(2));
    assert_eq!(run(["no-such-command"], &[]).status.code(), Some(2));
    let help = run(["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("--config.file <PATH>"));
}

#[tokio::test]
async fn flags_win_over_environment_and_that_over_the_file() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let yaml = format!("{}web: {{ telemetry_path: /file }}\nlog: {{ format: logfmt }}", upstream.configuration("1m"));
    let config = files.write("k.yml", yaml);
    let mut command = crate::support::binary();
    command.arg("--config.file").arg(config).args(["--web.listen-address", "127.0.0.1:0", "--log.level", "info"]);
    command.env("KOODRIVE_EXPORTER__WEB__TELEMETRY_PATH", "/environment");
    command.env("KOODRIVE_EXPORTER__LOG__LEVEL", "error");
    let exporter = Exporter::spawn(&mut command).await;
    assert_eq!(exporter.get("/environment").await.status, 200);
    assert_eq!(exporter.get("/file").await.status, 404);
}

/// What `check` says where there is no file, only an environment.
fn binary_in_empty_folder(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let files = Files::new();
    let mut command = crate::support::binary();
    let output = command.arg("check").current_dir(files.path("")).envs(environment.iter().copied()).output().unwrap();
    (output.status.code(), stderr(&output))
}
