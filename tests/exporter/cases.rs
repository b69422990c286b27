//! Small inputs with their right results: answers, configuration files and secrets, each through the binary.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::mpsc,
};

use crate::support::{Files, run, stderr};

fn case(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exporter/cases").join(path)
}

/// Answers each connection's first request with these bytes. Gives its address, and the requests.
fn serve(answer: Vec<u8>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or_default() == 0 {
                    break;
                }
                request.extend(byte);
            }
            let _ = sender.send(String::from_utf8_lossy(&request).into_owned());
            let _ = stream.write_all(&answer);
        }
    });
    (address, requests)
}

/// What `once` writes for an account with this credential that is so answered, and the requests that it made.
fn once(answer: &str, auth: &str) -> (String, Vec<String>) {
    once_answered(std::fs::read(case(answer)).unwrap(), auth)
}

fn once_answered(answer: Vec<u8>, auth: &str) -> (String, Vec<String>) {
    let (address, requests) = serve(answer);
    let files = Files::new();
    let yaml = format!("endpoint: \"http://{address}\"\naccounts: {{ a: {{ user_id: \"1\", auth: {{ {auth} }} }} }}");
    let config = files.write("k.yml", yaml);
    let output = run(["once", "--config.file", config.to_str().unwrap()], &[]);
    (String::from_utf8(output.stdout).unwrap(), requests.try_iter().collect())
}

#[test]
fn answers_are_read_liberally_in_form_and_strictly_in_meaning() {
    for (answer, reason) in [
        ("integral-floats", None),
        ("gzip-unasked", None),
        ("byte-order-mark", None),
        ("gbk-message", None),
        ("date-9999", None),
        ("fraction", Some("invalid_data")),
        ("inner-failure-400", Some("api_error")),
        ("bad-request-400", Some("api_error")),
        ("html-403", Some("http_status")),
        ("proxy-502-other-date", Some("http_status")),
    ] {
        let (written, requests) = once(&format!("answers/{answer}.http"), "type: token, token: t");
        let up = format!("koodrive_up{{account=\"a\"}} {}", u8::from(reason.is_none()));
        assert!(written.lines().any(|line| line == up), "{answer}: {written}");
        if let Some(reason) = reason {
            let info = format!("koodrive_poll_failure_info{{account=\"a\",reason=\"{reason}\"}} 1");
            assert!(written.lines().any(|line| line == info), "{answer}: {written}");
        } else {
            assert!(
                written.contains("koodrive_space_reported{account=\"a\",field=\"totalUsed\"} 33085606"),
                "{written}"
            );
        }
        let retried = ["inner-failure-400", "proxy-502-other-date"].contains(&answer);
        assert_eq!(requests.len() > 1 && answer != "bad-request-400", retried, "{answer}: {requests:?}");
    }
}

#[test]
fn status_of_a_refusal_counts_whatever_its_body_is() {
    let long = "x".repeat(100_000);
    let answer = |status: u16, headers: &str, length: usize, body: &str| {
        format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    for (answer, reason, requests_made) in [
        (answer(401, "", long.len(), &long), "auth", 1),
        (answer(403, "Content-Type: text/html\r\n", long.len(), &long), "http_status", 1),
        (answer(401, "Content-Encoding: gzip\r\n", 5, "plain"), "auth", 1),
        (answer(429, "Content-Encoding: br\r\n", 1, "x"), "rate_limited", 1),
        (answer(503, "Content-Encoding: br\r\n", 1, "x"), "http_status", 3),
        (answer(401, "", 100, "cut short"), "auth", 1),
    ] {
        let (written, requests) = once_answered(answer.clone().into(), "type: token, token: t");
        let info = format!("koodrive_poll_failure_info{{account=\"a\",reason=\"{reason}\"}} 1");
        assert!(written.lines().any(|line| line == info), "{answer:.90}: {written}");
        assert_eq!(requests.len(), requests_made, "{answer:.90}");
    }
}

#[test]
fn secrets_go_out_without_what_an_editor_left_around_them() {
    for secret in ["secrets/byte-order-mark", "secrets/trailing-blank"] {
        let auth = format!("type: token, token_file: {}", case(secret).display());
        let (_, requests) = once("answers/integral-floats.http", &auth);
        assert!(requests[0].to_lowercase().contains("\r\nauthorization: bearer example-token\r\n"), "{secret}");
    }
}

/// The exit code of `check` for these files, and what it says.
fn check(config: &str, web: Option<&str>) -> (Option<i32>, String) {
    let mut arguments = vec!["check".to_owned(), "--config.file".to_owned(), case(config).display().to_string()];
    if let Some(web) = web {
        arguments.extend(["--web.config.file".to_owned(), case(web).display().to_string()]);
    }
    let output = run(arguments, &[]);
    let said = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
    (output.status.code(), said)
}

#[test]
fn configuration_files_are_read_as_their_users_mean_them() {
    for (file, shown) in [
        ("merge-key", "accounts.finance.poll.interval 5m file"),
        ("byte-order-mark", "accounts.finance.user_id 1505084218764547200 file"),
        ("days", "accounts.finance.poll.max_age 24h file"),
    ] {
        let (code, said) = check(&format!("config/{file}.yml"), None);
        assert_eq!(code, Some(0), "{file}: {said}");
        let mut lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(lines.any(|line| line.starts_with(shown)), "{file}: {said}");
    }
    for (file, problem) in [
        ("numeric-alias", "numeric-alias.yml:2: accounts.0042: must be a string: put it in quotes"),
        ("bidi-alias", "accounts.fin\u{FFFD}ance\u{FFFD}x: must be a name"),
        ("alias-bomb", "is too large once its aliases are expanded"),
    ] {
        let (code, said) = check(&format!("config/{file}.yml"), None);
        assert_eq!(code, Some(3), "{file}: {said}");
        assert!(said.contains(problem), "{file}: {said}");
        assert!(!said.contains(['\u{202E}', '\u{2028}']), "{file}: {said}");
    }
}

#[test]
fn web_configuration_files_are_read_as_their_users_mean_them() {
    let (code, said) = check("config/byte-order-mark.yml", Some("config/web-null.yml"));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check("config/byte-order-mark.yml", Some("config/web-numeric-user.yml"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("basic_auth_users.0042: must be a string: put it in quotes"), "{said}");
}
