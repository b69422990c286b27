//! `check`, `once` and `healthcheck` as an operator or a container runs them.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use koodrive_simulator::Fault;
use serde_json::json;

use crate::{
    access::{Scene as Secured, TLS},
    support::{Exporter, Files, Upstream, binary, run, stderr},
};

async fn command(arguments: &[&str], config: &Path) -> Output {
    let arguments: Vec<_> =
        arguments.iter().chain(&["--config.file", config.to_str().unwrap()]).map(ToString::to_string).collect();
    tokio::task::spawn_blocking(move || run(arguments, &[])).await.unwrap()
}

async fn shell(script: String) -> ExitStatus {
    let run = move || std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn check_shows_each_value_and_where_it_comes_from() {
    let files = Files::new();
    let config = files.write(
        "k.yml",
        "poll: { interval: 2m }\nhttp: { proxy_url: \"http://u:hunter2@proxy.example:3128\" }\naccounts:\n  \
         finance: { user_id: \"1\", auth: { type: token, token: hunter2 }, poll: { interval: 5m } }\n  \
         production: { user_id: \"2\", auth: { type: app, app_id: x, app_secret_file: /etc/none } }\n",
    );
    let arguments = ["check", "--config.file", config.to_str().unwrap(), "--web.telemetry-path", "/m"];
    let output = run(arguments, &[("KOODRIVE_EXPORTER__ACCOUNTS__PRODUCTION__LANGUAGE", "zh-CN")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output).replace(&files.path("").display().to_string(), "FOLDER/"));
}

#[tokio::test]
async fn check_online_polls_each_account_once_and_shows_what_to_look_at() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let output = command(&["check", "--online"], &config).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("production  good"), "{}", stdout(&output));
    assert!(!stdout(&output).contains('\x1b'), "no colours where there is no terminal");

    upstream.simulator.set_fault(&upstream.user_id(0), Some(&Fault::Status { status: 401 }));
    let numbers = json!({ "totalCapacity": 1_051_187, "totalUsed": 33_085_606, "totalAllocation": 43 });
    upstream.simulator.set_numbers(&upstream.user_id(1), Some(numbers));
    upstream.simulator.set_clock_step(600);
    let output = command(&["check", "--online"], &config).await;
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(4), ""), "the table alone");
    let shown = stdout(&output);
    assert_eq!(shown.lines().count(), 4, "a row for each account");
    for expected in [
        "production  auth",
        "application's permission",
        "finance     wrong unit  31.6 GiB of 1.0 GiB (3147.5 %)",
        "units: usage is far above the capacity",
        " the API's; polls correct for it",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
}

#[tokio::test]
async fn check_online_does_not_poll_with_a_bad_configuration() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m").replace("interval: 1m", "interval: 0s"));
    assert_eq!(command(&["check", "--online"], &config).await.status.code(), Some(3));
    assert_eq!(upstream.simulator.record(&upstream.user_id(0)).unwrap().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_compares_the_units_of_each_account() {
    let (files, upstream) = (Files::new(), Upstream::start(8).await);
    let yaml = format!("collectors: [usage, overview]\n{}", upstream.configuration("1m"));
    let written = stdout(&command(&["once"], &files.write("k.yml", yaml)).await);
    assert_eq!(written.matches("\nkoodrive_units_doubtful{").count(), 8 * 3, "{written}");
}

#[tokio::test]
async fn once_puts_a_whole_file_in_the_place_of_the_old_one_or_leaves_it() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let output = files.write("koodrive.prom", "old");
    let written = command(&["once", "--output", output.to_str().unwrap()], &config).await;
    assert_eq!((written.status.code(), stdout(&written).as_str()), (Some(0), ""));
    let content = std::fs::read_to_string(&output).unwrap();
    assert!(content.contains("koodrive_up{account=\"production\"} 1\n") && content.ends_with('\n'));
    assert!(!content.contains("_age_seconds"), "an age in a file would stay young");
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o644, "the collector can read it");
    let nowhere = files.path("no such folder/koodrive.prom");
    let failed = command(&["once", "--output", nowhere.to_str().unwrap()], &config).await;
    assert_eq!(failed.status.code(), Some(1));
    let limited = format!(
        "ulimit -f 1; exec {} once --config.file {} --output {}",
        env!("CARGO_BIN_EXE_koodrive-exporter"),
        config.display(),
        output.display()
    );
    assert_eq!(shell(limited).await.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), content);
    let names = std::fs::read_dir(files.path("")).unwrap().count();
    assert_eq!(names, 2, "nothing else is left behind");
}

#[tokio::test]
async fn once_writes_to_a_pipe_in_place() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let (config, pipe) = (files.write("k.yml", upstream.configuration("1m")), files.path("pipe"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reading = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    let written = command(&["once", "--output", pipe.to_str().unwrap()], &config).await;
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(reading.await.unwrap().contains("koodrive_up{account=\"production\"} 1\n"));
    assert!(!std::fs::metadata(&pipe).unwrap().is_file());
}

#[tokio::test]
async fn once_writes_to_standard_output_where_it_stands() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let (config, output) = (files.write("k.yml", upstream.configuration("1m")), files.write("out", ""));
    let script = format!(
        "(echo HEAD; {} once --config.file {} --output /dev/stdout; echo TAIL) >{}",
        env!("CARGO_BIN_EXE_koodrive-exporter"),
        config.display(),
        output.display()
    );
    assert!(shell(script).await.success());
    let written = std::fs::read_to_string(&output).unwrap();
    assert!(written.starts_with("HEAD\n# HELP") && written.ends_with("TAIL\n"), "{written}");
}

#[tokio::test]
async fn healthcheck_answers_by_its_exit_code_over_http_and_tls() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    let ask = async |url: String| {
        tokio::task::spawn_blocking(move || run(["healthcheck", "--url", &url], &[])).await.unwrap()
    };
    assert_eq!(ask(format!("{}/-/healthy", exporter.url)).await.status.code(), Some(0));
    let missing = ask(format!("{}/nonexistent", exporter.url)).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("the exporter answers 404"), "{}", stderr(&missing));
    let refused = ask("http://127.0.0.1:1/-/healthy".to_owned()).await;
    assert!(stderr(&refused).contains("Connection refused"), "{}", stderr(&refused));
    let secured = Secured::start(TLS, &[]).await;
    assert_eq!(ask(secured.url("/-/healthy")).await.status.code(), Some(0));
}

/// The exit code and the words of `healthcheck` with this configuration file.
async fn health(config: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec!["healthcheck".to_owned(), "--config.file".to_owned(), config.display().to_string()];
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let output = tokio::task::spawn_blocking(move || run(arguments, &[])).await.unwrap();
    (output.status.code(), stderr(&output))
}

#[tokio::test]
async fn healthcheck_finds_an_exporter_that_listens_on_a_unix_socket_alone() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let socket = files.path("k.sock");
    let web = format!("web: {{ listen_addresses: [\"unix:{}\"] }}\n", socket.display());
    let config = files.write("k.yml", web + &upstream.configuration("1m"));
    let mut command = binary();
    command.args(["--config.file", config.to_str().unwrap()]).stderr(Stdio::piped());
    let mut exporter = command.spawn().unwrap();
    let log = BufReader::new(exporter.stderr.take().unwrap());
    let polling = tokio::task::spawn_blocking(move || {
        let mut lines = log.lines();
        assert!(lines.any(|line| line.unwrap().contains("message=polling")));
        lines
    });
    let lines = polling.await.unwrap();
    let well = health(&config, &[]).await;
    exporter.kill().unwrap();
    exporter.wait().unwrap();
    drop(lines);
    assert_eq!(well, (Some(0), String::new()));
    assert_eq!(health(&config, &[]).await.0, Some(1));
}

#[tokio::test]
async fn healthcheck_takes_the_wish_for_a_certificate_or_a_password_as_a_sign_of_life() {
    for version in ["TLS12", "TLS13"] {
        let clients = format!("client_auth_type: RequireAnyClientCert, max_version: {version}");
        let web = TLS.replace(" }", &format!(", {clients} }}"));
        let secured = Secured::start(&web, &[]).await;
        let asked = health(&secured.files.path("k.yml"), &["--url", &secured.url("/-/healthy")]).await;
        assert_eq!(asked, (Some(0), String::new()), "{version}");
    }
    let hash = bcrypt::hash("pw", 4).unwrap();
    let secured = Secured::start(&format!("basic_auth_users: {{ alice: \"{hash}\" }}"), &[]).await;
    let asked = health(&secured.files.path("k.yml"), &["--url", &format!("{}/metrics", secured.exporter.url)]).await;
    assert_eq!(asked, (Some(0), String::new()));
}

#[tokio::test]
async fn healthcheck_guesses_no_port_and_does_not_mind_what_is_wrong_elsewhere() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let exporter = Exporter::start(&files.write("good.yml", upstream.configuration("1m")), &[]).await;
    let address = exporter.url.trim_start_matches("http://");
    let typo =
        files.write("k.yml", format!("web: {{ listen_addresses: [\"{address}\"] }}\npoll: {{ interval: soon }}\n"));
    assert_eq!(health(&typo, &[]).await, (Some(0), String::new()));
    let web_typo = format!("web: {{ listen_addresses: [\"{address}\"], config_file: web.yml }}\n");
    files.write("web.yml", "colour: red");
    assert_eq!(health(&files.write("w.yml", web_typo), &[]).await, (Some(0), String::new()));
    for broken in ["web: { listen_addresses: [soon] }", "web: {", "web: [1]"] {
        let (code, said) = health(&files.write("broken.yml", broken), &[]).await;
        assert_eq!(code, Some(3), "{broken}: {said}");
        assert!(said.contains("cannot find where the exporter listens"), "{broken}: {said}");
    }
}

#[test]
fn simulate_writes_no_configuration_that_check_refuses() {
    let files = Files::new();
    let config = files.path("k.yml");
    let flags = ["--listen-address", "127.0.0.1:0", "--interval", "1h", "--write-config", config.to_str().unwrap()];
    let output = run(["simulate"].iter().chain(&flags), &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("poll.interval: must be below 20 minutes"), "{}", stderr(&output));
    assert!(!config.exists());
}

#[tokio::test]
async fn check_warns_of_what_will_fail_and_is_strict_where_that_is_wanted() {
    let (files, authority) = (Files::new(), crate::hostile::Authority::new());
    let (certificate, key) = authority.issue_for("localhost", Duration::from_hours(72));
    files.write("server.crt", certificate);
    files.write("server.key", key);
    let open = files.write("open", "hunter2");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let closed = files.write("closed", "hunter2");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o640)).unwrap();
    files.write("empty", "\n");
    let account = |alias: &str, user: u8, file: &str| {
        format!("  {alias}: {{ user_id: \"{user}\", auth: {{ type: token, token_file: {file} }} }}\n")
    };
    let web = files.write("web.yml", "tls_server_config: { cert_file: server.crt, key_file: server.key }\n");
    std::fs::set_permissions(files.path("server.key"), std::fs::Permissions::from_mode(0o604)).unwrap();
    let accounts = account("a", 1, "closed") + &account("b", 2, "open") + &account("c", 3, "empty");
    let accounts = accounts + &account("d", 4, "n0where") + &account("e", 1, "closed");
    let inline = "  f: { user_id: \"6\", auth: { type: token, token: hunter2 } }\n";
    let config = files.write("k.yml", format!("accounts:\n{accounts}{inline}"));
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
    let flags = ["check", "--web.config.file", web.to_str().unwrap()];
    let output = command(&flags, &config).await;
    let warnings = stderr(&output);
    for expected in [
        "tls_server_config: the listener's certificate expires in 2 d 23 h: put a renewed one in its place",
        "server.key: everybody can read or write it (mode 604)",
        "accounts.b.auth.token_file: ",
        "everybody can read or write it (mode 644)",
        "accounts.c.auth.token_file: ",
        "/empty, read as user ",
        "accounts.d.auth.token_file: a file in ",
        "No such file",
        "accounts.f.auth.token: is in ",
        "k.yml, which everybody can read or write (mode 644)",
        "accounts.e.user_id: is that of accounts.a, too",
    ] {
        assert!(warnings.contains(expected), "{expected} is missing in\n{warnings}");
    }
    assert!(!warnings.contains("hunter2") && !warnings.contains("n0where") && !warnings.contains("accounts.a.auth"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(command(&[&flags[..], &["--strict"]].concat(), &config).await.status.code(), Some(3));
}
