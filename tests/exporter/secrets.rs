//! No credential anywhere, at the most talkative level, through success and every failure.

use crate::{
    access::Scene as Secured,
    failures::{SECRET, Scene},
    support::{Files, Page, run, stderr},
};

#[tokio::test]
async fn no_log_page_or_check_output_shows_a_credential() {
    let mut scene = Scene::start(&["--log.level", "trace"]).await;
    scene.all_fail().await;
    let mut shown = Vec::new();
    for path in ["/", "/metrics", "/-/healthy", "/health", "/-/ready", "/nonexistent"] {
        shown.push(scene.exporter.get(path).await.body);
    }
    let (mut exporter, files) = scene.recover().await;
    for path in ["/", "/metrics", "/health"] {
        shown.push(exporter.get(path).await.body);
    }
    let config = files.path("k.yml");
    for command in ["check", "once"] {
        let config = config.to_str().unwrap().to_owned();
        let arguments = [command.to_owned(), "--config.file".to_owned(), config, "--log.level=trace".to_owned()];
        let output = tokio::task::spawn_blocking(move || run(arguments, &[])).await.unwrap();
        shown.push(stderr(&output));
        shown.push(String::from_utf8(output.stdout).unwrap());
    }
    exporter.signal("-TERM");
    exporter.line(|line| line.contains("message=stopped")).await;
    let log = exporter.log();
    assert!(log.contains("withheld: it may repeat the credential"), "the upstream did repeat one");
    shown.push(log);
    for text in shown {
        let hex: String = SECRET
            .bytes()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect();
        for secret in [SECRET, &SECRET.to_uppercase(), &hex, "Signature=", "Bearer", "AppId="] {
            let line = text.lines().find(|line| line.contains(secret) && !line.contains("token_prefix"));
            assert_eq!(line, None, "{secret} is shown");
        }
    }
}

#[tokio::test]
async fn no_log_page_or_check_output_shows_a_key_a_password_or_its_hash() {
    const PASSWORDS: [&str; 3] = ["correct-horse", "battery-staple", "never-right"];
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let (first, second) = (hash(PASSWORDS[0]), hash(PASSWORDS[1]));
    let files = |key: &str, hash: &str| {
        let indented: Vec<_> = key.lines().map(|line| format!("    {line}\n")).collect();
        let tls = format!("tls_server_config:\n  cert_file: server.crt\n  key: |\n{}", indented.concat());
        format!("{tls}basic_auth_users:\n  alice: {hash}\n")
    };
    // The first file names the key, the next has it inline, with another user and then with mistakes around it.
    let web = format!(
        "tls_server_config: {{ cert_file: server.crt, key_file: server.key }}\nbasic_auth_users: {{ alice: \"{first}\" }}"
    );
    let mut secured = Secured::start(&web, &["--log.level", "trace"]).await;
    let key = std::fs::read_to_string(secured.files.path("server.key")).unwrap();
    let mut shown = Vec::new();
    let changes = [
        (files(&key, &second), "web configuration reloaded"),
        (files(&key, &second).replace("alice", "alice: x"), "web configuration reload failed"),
        (files(&key.replace("-----BEGIN", "---"), &second[1..]), "web configuration reload failed"),
        (format!("{}rate_limit: 1\n", files(&key, &second)), "web configuration reload failed"),
    ];
    for (web, logged) in changes {
        secured.files.write("new", web);
        std::fs::rename(secured.files.path("new"), secured.files.path("web.yml")).unwrap();
        secured.exporter.line(|line| line.contains(logged)).await;
        for password in PASSWORDS {
            for path in ["/", "/metrics", "/health", "/nonexistent"] {
                let request = secured.client(None).get(secured.url(path)).basic_auth("alice", Some(password));
                let page = Page::of(request.send().await.unwrap()).await;
                shown.push(format!("{:?}{}", page.headers, page.body));
            }
        }
        shown.push(check(&secured.files).await);
    }
    secured.exporter.signal("-TERM");
    secured.exporter.line(|line| line.contains("message=stopped")).await;
    shown.push(secured.exporter.log());
    let secrets = key.lines().filter(|line| !line.starts_with('-')).chain(PASSWORDS).chain([&first[7..], &second[7..]]);
    // What a client sends: `alice:` and the beginning of a password in base64.
    for secret in secrets.chain(["YWxpY2U6Y29ycmVjd", "YWxpY2U6YmF0dGVye", "YWxpY2U6bmV2ZXIt"]) {
        assert!(shown.iter().all(|text| !text.contains(secret)), "{secret} is shown");
    }
}

async fn check(files: &Files) -> String {
    let (config, web) = (files.path("k.yml"), files.path("web.yml"));
    let arguments = ["check".into(), "--config.file".into(), config, "--web.config.file".into(), web];
    let output = tokio::task::spawn_blocking(move || run(arguments, &[("RUST_BACKTRACE", "full")])).await.unwrap();
    stderr(&output) + &String::from_utf8(output.stdout).unwrap()
}
