//! What the status page says beside its tables.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::Client;
use serde_json::json;

use crate::support::{Exporter, Files, Upstream};

const RUNBOOKS: &str = "https://runbooks.example/koodrive";

/// The link to the runbook of an alert.
fn link(alert: &str) -> String {
    format!(" <a href=\"{RUNBOOKS}/{alert}.md\">Runbook</a>")
}

#[tokio::test]
async fn a_failure_and_a_failed_reload_link_to_their_runbooks_where_the_operator_has_some() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    upstream.simulator.set_token(&upstream.user_id(1), "another".to_owned());
    let yaml = format!("web: {{ runbook_url: {RUNBOOKS}/ }}\n{}", upstream.configuration("1m"));
    let config = files.write("k.yml", &yaml);
    let mut exporter = Exporter::start(&config, &[]).await;
    exporter.line_of_each(&["finance"], "account polls failing").await;
    let page = exporter.get("/").await;
    assert!(page.body.contains(&link("KooDriveAuthFailing")), "{}", page.body);
    assert!(page.body.contains(">none since the start<"), "{}", page.body);
    assert!(!page.body.contains("KooDriveConfigReloadFailed"), "{}", page.body);

    files.write("k.yml", format!("x: 1\n{yaml}"));
    exporter.signal("-HUP");
    exporter.line(|line| line.contains("level=error")).await;
    // The page may lag behind by a second.
    let banner = format!("and a restart would fail.{}", link("KooDriveConfigReloadFailed"));
    while !exporter.get("/").await.body.contains(&banner) {}

    let mut without = Exporter::start(&files.write("other.yml", upstream.configuration("1m")), &[]).await;
    without.line_of_each(&["finance"], "account polls failing").await;
    assert!(!without.get("/").await.body.contains("Runbook"));
}

#[tokio::test]
async fn usage_above_the_capacity_differs_from_a_full_account_and_that_from_an_almost_full_one() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    for (account, used) in [119_u32, 100, 99].into_iter().enumerate() {
        let numbers = json!({ "totalCapacity": 100, "totalUsed": used, "totalAllocation": 50 });
        upstream.simulator.set_numbers(&upstream.user_id(account), Some(numbers));
    }
    let mut exporter =
        Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &["--log.level=debug"]).await;
    exporter.line_of_each(&["archive", "finance", "production"], "poll succeeded").await;
    let page = exporter.get("/").await.body;
    for usage in ["119.0 % more than full", "100.0 % full", "99.0 % almost full"] {
        assert!(page.contains(usage), "{usage} is missing in {page}");
    }
    assert!(page.contains(", 19.0 KiB too much"), "{page}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_and_a_web_configuration_that_is_broken_are_on_the_page() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_after = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    files.write("server.crt", parameters.self_signed(&key).unwrap().pem());
    files.write("server.key", key.serialize_pem());
    let web = "tls_server_config: { cert_file: server.crt, key_file: server.key }\n";
    let web_config = files.write("web.yml", web);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let mut exporter = Exporter::start(&config, &["--web.config.file", web_config.to_str().unwrap()]).await;
    exporter.line(|line| line.contains("certificate needs to be renewed") && line.contains("expired")).await;
    let client = Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let address = exporter.url.replace("http://", "https://");
    let page = async || client.get(format!("{address}/")).send().await.unwrap().text().await.unwrap();
    while !page().await.contains("role=\"alert\">The listener's certificate expired") {}

    files.write("web.yml", format!("{web}x: 1\n"));
    exporter.line(|line| line.contains("level=error")).await;
    while !page().await.contains("role=\"alert\">The latest reload of the web configuration file") {}
}

#[tokio::test]
async fn a_browser_that_is_asked_to_loads_the_page_again_without_a_script() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    assert!(exporter.get("/").await.body.contains("href=\"/?refresh=10\""));
    for (query, header) in [("refresh=10", "10"), ("refresh=0", ""), ("refresh=10;url=https://h.example", ""), ("", "")]
    {
        assert_eq!(exporter.get(&format!("/?{query}")).await.header("refresh"), header, "{query}");
    }
}
