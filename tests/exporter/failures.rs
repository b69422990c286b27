//! Each way in which an upstream can fail: its reason, and the recovery.

use std::fmt::Write;

use koodrive_simulator::Fault;

use crate::{
    hostile::{Authority, Behaviour, Hostile, Refusing},
    support::{Exporter, Files, Page, Upstream},
};

/// Each behaviour of a plain HTTP server by the name of its account, with the reason it is to give.
pub const BEHAVIOURS: [(&str, Behaviour, &str); 23] = [
    ("hang", Behaviour::Hang, "timeout"),
    ("slow-body", Behaviour::SlowBody, "timeout"),
    ("truncated", Behaviour::Truncated, "connect"),
    ("close", Behaviour::Close, "connect"),
    ("garbage", Behaviour::Garbage, "decode"),
    ("huge-body", Behaviour::HugeBody, "decode"),
    ("endless-body", Behaviour::EndlessBody, "decode"),
    ("bad-chunk", Behaviour::BadChunk, "decode"),
    ("chunk-extension", Behaviour::EndlessChunkExtension, "decode"),
    ("html", Behaviour::Answer(200, "<html><body>welcome</body></html>"), "decode"),
    ("deep-json", Behaviour::Answer(200, DEEP_JSON), "decode"),
    ("no-body", Behaviour::Answer(204, ""), "decode"),
    ("redirect", Behaviour::Answer(302, ""), "http_status"),
    ("server-error", Behaviour::Answer(500, r#"{"code":13000001,"msg":"internal"}"#), "http_status"),
    ("bad-credentials", Behaviour::Answer(400, r#"{"code":1,"msg":"no"}"#), "auth"),
    ("unauthorized", Behaviour::EchoCredential, "auth"),
    ("forbidden", Behaviour::Answer(403, r#"{"error_code":"APIGW.0303"}"#), "auth"),
    ("firewall", Behaviour::Answer(403, "<html>"), "http_status"),
    ("throttled", Behaviour::Answer(429, ""), "rate_limited"),
    ("not-active", Behaviour::Answer(400, r#"{"code":13000412,"msg":"no space"}"#), "api_error"),
    ("wrong-code", Behaviour::Answer(200, r#"{"code":13000301,"msg":"no","data":{"totalUsed":1}}"#), "api_error"),
    ("no-data", Behaviour::Answer(200, r#"{"code":0,"msg":"success"}"#), "invalid_data"),
    ("negative", Behaviour::Answer(200, r#"{"code":0,"data":{"totalUsed":-1,"totalCapacity":3}}"#), "invalid_data"),
];

const DEEP_JSON: &str = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";

/// What every token and secret of these accounts begins with.
pub const SECRET: &str = "hunter2";

/// An exporter with an account for each failure, its upstreams, and what makes them well.
pub struct Scene {
    pub exporter: Exporter,
    pub accounts: Vec<(&'static str, &'static str)>,
    pub files: Files,
    hostile: Vec<Hostile>,
    refusing: Refusing,
}

impl Scene {
    pub async fn start(flags: &[&str]) -> Self {
        let (files, authority, stranger) = (Files::new(), Authority::new(), Authority::new());
        files.write("ca.pem", &authority.1);
        let mut yaml = String::from(
            "poll: { interval: 1s, timeout: 900ms, concurrency: 64 }\nhttp: { proxy_url: none, ca_file: ca.pem }\naccounts:\n",
        );
        let (mut hostile, mut accounts) = (Vec::new(), Vec::new());
        let mut add = |alias: &'static str, endpoint: &str, auth: &str, reason: &'static str| {
            let index = accounts.len();
            writeln!(yaml, "  {alias}: {{ endpoint: \"{endpoint}\", user_id: \"9{index:018}\", auth: {{ {auth} }} }}")
                .unwrap();
            accounts.push((alias, reason));
        };
        let token = format!("type: token, token: {SECRET}-token");
        let app = format!("type: app, app_id: an-app, app_secret: {SECRET}-secret");
        for (index, (alias, behaviour, reason)) in BEHAVIOURS.into_iter().enumerate() {
            let server = Hostile::start(behaviour).await;
            add(alias, &format!("http://{}", server.address), if index % 2 == 0 { &app } else { &token }, reason);
            hostile.push(server);
        }
        let good = authority.acceptor("localhost", &[]);
        for (alias, bad) in
            [("untrusted", stranger.acceptor("localhost", &[])), ("misnamed", authority.acceptor("other.example", &[]))]
        {
            let server = Hostile::start_tls(bad, good.clone()).await;
            let port = server.address.rsplit(':').next().unwrap();
            add(alias, &format!("https://localhost:{port}"), &app, "tls");
            hostile.push(server);
        }
        let refusing = Refusing::bind();
        add("refused", &format!("http://{}", refusing.address()), &token, "connect");
        let well = Hostile::start(Behaviour::Good).await;
        add("no-secret", &format!("http://{}", well.address), "type: token, token_file: late-token", "credentials");
        hostile.push(well);
        let exporter = Exporter::start(&files.write("k.yml", yaml), flags).await;
        Self { exporter, accounts, files, hostile, refusing }
    }

    /// Makes every upstream well, and waits until every account has recovered.
    pub async fn recover(self) -> (Exporter, Files) {
        let Self { mut exporter, accounts, files, hostile, refusing } = self;
        hostile.iter().for_each(Hostile::behave);
        refusing.listen();
        files.write("late-token", format!("{SECRET}-late\n"));
        let aliases: Vec<&str> = accounts.iter().map(|(alias, _)| *alias).collect();
        exporter.line_of_each(&aliases, "account polls succeeding again").await;
        (exporter, files)
    }

    pub async fn all_fail(&mut self) {
        let aliases: Vec<&str> = self.accounts.iter().map(|(alias, _)| *alias).collect();
        self.exporter.line_of_each(&aliases, "account polls failing").await;
    }
}

#[tokio::test]
async fn each_failure_has_its_reason_and_recovers_with_the_next_good_poll() {
    let mut scene = Scene::start(&[]).await;
    scene.all_fail().await;
    let page = scene.exporter.get("/metrics").await;
    assert_eq!(page.status, 200);
    let accounts = scene.accounts.clone();
    for (alias, reason) in &accounts {
        assert_eq!(failures(&page, alias), [*reason], "{alias}: {}", scene.exporter.log());
        assert_eq!(page.value(&format!("koodrive_up{{account=\"{alias}\"}}")), Some(0.0), "{alias}");
        let success = format!("koodrive_poll_last_success_timestamp_seconds{{account=\"{alias}\"}}");
        assert_eq!(page.value(&success), Some(0.0), "{alias}");
    }
    let spaces: Vec<&str> = page.body.lines().filter(|line| line.starts_with("koodrive_space_")).collect();
    insta::assert_snapshot!(spaces.join("\n"), @r#"
    koodrive_space_capacity_bytes{account="negative"} 3072
    koodrive_space_reported{account="negative",field="totalCapacity"} 3
    "#);
    assert_eq!(scene.exporter.get("/-/ready").await.status, 200, "readiness does not follow the upstream");
    assert_eq!(scene.exporter.get("/-/healthy").await.status, 200, "nor does health");

    let (mut exporter, _files) = scene.recover().await;
    let page = exporter.get("/metrics").await;
    for (alias, _) in &accounts {
        assert_eq!(page.value(&format!("koodrive_up{{account=\"{alias}\"}}")), Some(1.0), "{alias}");
        assert_eq!(page.value(&format!("koodrive_space_used_bytes{{account=\"{alias}\"}}")), Some(2048.0), "{alias}");
    }
    let log = exporter.log();
    for (alias, _) in &accounts {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&format!("account={alias} "))).collect();
        assert_eq!(lines.len(), 2, "one line for the failure, one for the recovery: {lines:#?}");
        assert!(lines[0].contains("reason=") && lines[0].contains("duration="));
        let unsent = ["reason=credentials", "reason=tls", "Connection refused"];
        let was_sent = !unsent.iter().any(|unsent| lines[0].contains(unsent));
        assert_eq!(
            lines[0].contains("trace_id="),
            was_sent,
            "a request that was never sent has no trace id: {}",
            lines[0]
        );
        assert!(lines[1].contains("failures="));
    }
}

/// The reasons that an account's failures were counted under.
fn failures(page: &Page, alias: &str) -> Vec<String> {
    let series = format!("koodrive_poll_failures_total{{account=\"{alias}\",reason=\"");
    let counted = page.body.lines().filter_map(|line| line.strip_prefix(&series)?.split_once("\"} "));
    counted.filter(|(_, count)| *count != "0").map(|(reason, _)| reason.to_owned()).collect()
}

#[tokio::test]
async fn an_answer_that_takes_more_than_half_the_timeout_is_a_good_one() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    upstream.simulator.set_fault(&upstream.user_id(0), Some(&Fault::Delay { milliseconds: 6_000 }));
    let config = upstream.configuration("10s").replace("10s", "10s, timeout: 10s");
    let mut exporter = Exporter::start(&files.write("k.yml", config), &["--log.level=debug"]).await;
    exporter.line_of_each(&["production"], "poll succeeded").await;
    let page = exporter.get("/metrics").await;
    assert_eq!(page.value("koodrive_up{account=\"production\"}"), Some(1.0));
    assert_eq!(upstream.simulator.record(&upstream.user_id(0)).unwrap().requests, 1);
}
