//! What the web configuration file may not say, as `check` reports it.

use crate::{
    hostile::Authority,
    support::{Files, run, stderr},
};

#[test]
fn what_is_wrong_with_the_file_is_reported_at_once_with_its_place_and_without_its_secrets() {
    let files = Files::new();
    files.write("not.pem", "hunter2");
    let web = files.write(
        "web.yml",
        "tls_server_config:\n  cert_file: nowhere.crt\n  key_file: not.pem\n  client_auth_type: Always\n  client_ca_file: not.pem\n  \
         min_version: TLS10\n  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n  curve_preferences: [CurveP521]\n  colour: red\n\
         http_server_config:\n  http2: maybe\n  headers: { Server: x }\n\
         basic_auth_users: { alice: hunter2, bob: $2y$17$abcdefghijklmnopqrstuuGG7xbrxkIsvLzWqf8Ug4/PIbQ9OiF7q }\n\
         rate_limit: { interval: 1s }\n",
    );
    let config = files.write("k.yml", "web: { config_file: web.yml }\naccounts: {}\n");
    let output = run(["check", "--config.file", config.to_str().unwrap()], &[]);
    let reported = stderr(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(!reported.contains("hunter2"), "{reported}");
    insta::assert_snapshot!(reported.replace(&files.path("").display().to_string(), "FOLDER/"));
    let _ = web;
}

#[test]
fn what_is_no_file_to_read_is_refused_at_once_and_a_key_in_the_place_of_a_path_is_not_shown() {
    let files = Files::new();
    let key = Authority::new().issue("localhost").1;
    let indented: Vec<_> = key.lines().map(|line| format!("    {line}\n")).collect();
    files.write("server.crt", &key);
    assert!(std::process::Command::new("mkfifo").arg(files.path("fifo")).status().unwrap().success());
    for (web, expected) in [
        (
            format!("tls_server_config:\n  cert_file: server.crt\n  key_file: |\n{}", indented.concat()),
            "key_file: must be a path",
        ),
        (
            "tls_server_config: { cert_file: server.crt, key_file: fifo }".to_owned(),
            "key_file: cannot be read: is no regular file",
        ),
        (
            "tls_server_config: { cert_file: /dev/zero, key_file: server.crt }".to_owned(),
            "cert_file: cannot be read: is no regular file",
        ),
    ] {
        files.write("web.yml", &web);
        let config = files.write("k.yml", "web: { config_file: web.yml }\n");
        let reported = stderr(&run(["check", "--config.file", config.to_str().unwrap()], &[]));
        assert!(reported.contains(expected), "{reported}");
        assert!(key.lines().skip(1).all(|line| !reported.contains(line)), "{reported}");
    }
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let (files, authority) = (Files::new(), Authority::new());
    let (certificate, key) = authority.issue("localhost");
    files.write("server.crt", &certificate);
    files.write("server.key", &key);
    files.write("other.key", authority.issue("localhost").1);
    files.write("ca.crt", &authority.1);
    let (files, key) = (&files, "cert_file: server.crt, key_file: server.key");
    for (web, expected) in [
        (format!("tls_server_config: {{ {key}, client_ca_file: ca.crt }}"), "client_auth_type: is missing"),
        (
            format!("tls_server_config: {{ {key}, client_allowed_sans: [a] }}"),
            "client_allowed_sans: needs client_auth_type",
        ),
        (format!("tls_server_config: {{ {key}, min_version: TLS13, max_version: TLS12 }}"), "max_version: is below"),
        (
            format!("tls_server_config: {{ {key}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256] }}"),
            "cipher_suites: lists suites of TLS 1.3 alone",
        ),
        ("tls_server_config: { cert_file: server.crt }".to_owned(), "key_file: is missing"),
        (
            "tls_server_config: { cert_file: server.crt, key_file: other.key }".to_owned(),
            "tls_server_config: certificate and key do not belong together",
        ),
    ] {
        files.write("web.yml", &web);
        let config = files.write(
            "k.yml",
            "web: { config_file: web.yml }\nendpoint: https://intl.myhuaweicloud-koodrive.com\n\
             accounts: { a: { user_id: \"1\", auth: { type: token, token: t } } }\n",
        );
        let output = run(["check", "--config.file", config.to_str().unwrap()], &[]);
        assert!(stderr(&output).contains(expected), "{web}\n{}", stderr(&output));
        assert_eq!(output.status.code(), Some(3));
    }
}

#[test]
fn an_empty_file_asks_for_nothing() {
    let files = Files::new();
    files.write("web.yml", "# nothing yet\n\n");
    let config = files.write(
        "k.yml",
        "web: { config_file: web.yml }\nendpoint: https://intl.myhuaweicloud-koodrive.com\n\
         accounts: { a: { user_id: \"1\", auth: { type: token, token: t } } }\n",
    );
    assert_eq!(stderr(&run(["check", "--config.file", config.to_str().unwrap()], &[])), "");
}
