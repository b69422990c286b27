//! Where the exporter listens, and under which paths.

use std::{
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Command, Stdio},
};

use tokio::net::UnixStream;

use crate::{
    access::request,
    support::{Exporter, Files, Upstream, binary, run, stderr},
};

const GET_HEALTH: &str = "GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_unix_socket_has_the_mode_and_owner_that_it_is_given() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let own = std::fs::metadata(&config).unwrap();
    let socket = files.path("k.sock");
    // Only root can give a file away.
    let (owner, group) = if own.uid() == 0 { (12_345, 54_321) } else { (own.uid(), own.gid()) };
    let listen = format!("unix:{}?mode=620&owner={owner}&group={group}", socket.display());
    let _exporter = Exporter::start(&config, &["--web.listen-address", &listen]).await;
    let file = std::fs::metadata(&socket).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, file.uid(), file.gid()), (0o620, owner, group));
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    assert!(request(&mut stream, GET_HEALTH).await.starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_socket_setting_that_makes_no_sense_is_refused() {
    for (setting, expected) in [
        ("mode=rw", "mode that is not octal"),
        ("mode=7777", "mode that is not octal"),
        ("owner=no-such-user-here", "an owner that does not exist"),
        ("group=no-such-group-here", "a group that does not exist"),
        ("colour=red", "none of mode, owner and group"),
    ] {
        let output = run(["check", "--web.listen-address", &format!("unix:/run/k.sock?{setting}")], &[]);
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

/// Runs the exporter as systemd would, with a listening socket as its file descriptor 3.
fn activated(socket: impl Into<Stdio>, arguments: &[&str]) -> Command {
    let shell = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let program = binary().get_program().to_owned();
    let mut command = Command::new("/bin/sh");
    command.env_clear().stdin(socket).args(["-c", shell]).arg(program).args(arguments);
    command
}

#[tokio::test]
async fn sockets_that_systemd_passes_on_are_served_instead_of_addresses() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, own) = (tcp.local_addr().unwrap().port(), tcp.try_clone().unwrap());
    let arguments = ["--config.file", config.to_str().unwrap(), "--web.listen-address", "127.0.0.1:1"];
    let exporter = Exporter::spawn(&mut activated(std::os::fd::OwnedFd::from(tcp), &arguments)).await;
    assert!(exporter.url.ends_with(&format!(":{port}")));
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    // As another service may do that has the same socket.
    own.set_nonblocking(false).unwrap();
    for _ in 0..4 {
        assert_eq!(exporter.get("/-/healthy").await.status, 200);
    }
}

#[tokio::test]
async fn a_unix_socket_that_systemd_passes_on_stays_when_the_exporter_stops() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let socket = files.path("k.sock");
    let unix = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut command = activated(std::os::fd::OwnedFd::from(unix), &["--config.file", config.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    assert!(request(&mut stream, GET_HEALTH).await.starts_with("HTTP/1.1 200 OK"));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(socket.exists(), "it is systemd's");
}

#[test]
fn a_descriptor_that_is_no_stream_socket_is_a_run_time_failure() {
    let files = Files::new();
    let file = std::fs::File::create(files.path("f")).unwrap();
    let output = activated(file, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not a socket"), "{}", stderr(&output));
}

#[tokio::test]
async fn pages_stand_below_the_route_prefix_and_links_are_the_external_urls() {
    for (flags, prefix, links) in [
        (&["--web.route-prefix", "/koodrive/"][..], "/koodrive", "/koodrive"),
        (&["--web.external-url", "https://example.org/k"], "/k", "https://example.org/k"),
        (&["--web.external-url", "https://example.org/k/", "--web.route-prefix", "/"], "", "https://example.org/k"),
        (&["--web.telemetry-path", "/m"], "", ""),
    ] {
        let (files, upstream) = (Files::new(), Upstream::start(1).await);
        let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), flags).await;
        let telemetry = if flags.contains(&"/m") { "/m" } else { "/metrics" };
        for path in [telemetry, "/-/healthy", "/health", "/"] {
            assert_eq!(exporter.get(&format!("{prefix}{path}")).await.status, 200, "{flags:?} {path}");
        }
        let page = exporter.get(&format!("{prefix}/")).await;
        assert!(page.body.contains(&format!("href=\"{links}{telemetry}\"")), "{}", page.body);
        if !prefix.is_empty() {
            let client =
                reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
            for path in ["/", prefix] {
                let answer = client.get(format!("{}{path}", exporter.url)).send().await.unwrap();
                assert_eq!(answer.status().as_u16(), 307);
                assert_eq!(answer.headers()["location"], format!("{links}/"));
            }
            for path in ["/metrics", "/health", &format!("{prefix}x"), &format!("{prefix}metrics")] {
                assert_eq!(exporter.get(path).await.status, 404, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn the_status_page_may_run_no_script_and_load_nothing() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    let page = exporter.get("/").await;
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"));
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(page.header(name), value);
    }
    assert!(!page.body.contains("<script") && !page.body.contains("style="));
}
