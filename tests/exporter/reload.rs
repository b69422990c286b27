//! The configuration changes while the exporter runs.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use koodrive_simulator::Fault;

use crate::{
    scripted,
    scripted::Scripted,
    support::{Exporter, Files, PATIENCE, Page, Upstream, client},
};

struct Scene {
    exporter: Exporter,
    files: Files,
    upstream: Upstream,
}

impl Scene {
    async fn start(accounts: u64, flags: &[&str]) -> Self {
        let (files, upstream) = (Files::new(), Upstream::start(10).await);
        let config = files.write("k.yml", configuration(&upstream, accounts, "5s"));
        let mut exporter = Exporter::start(&config, flags).await;
        exporter.line(|line| line.contains("message=polling")).await;
        Self { exporter, files, upstream }
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        let new = self.files.write("new.yml", content);
        std::fs::rename(new, self.files.path("k.yml")).unwrap();
    }

    async fn post(&self) -> Page {
        Page::of(client().post(format!("{}/-/reload", self.exporter.url)).send().await.unwrap()).await
    }

    /// Scrapes until `wanted` holds.
    async fn scrape_until(&self, wanted: impl Fn(&Page) -> bool) -> Page {
        let scrapes = async {
            loop {
                let page = self.exporter.get("/metrics").await;
                if wanted(&page) {
                    return page;
                }
            }
        };
        tokio::time::timeout(PATIENCE, scrapes).await.expect("the metrics come to it")
    }
}

/// The first of the simulator's accounts.
fn configuration(upstream: &Upstream, accounts: u64, interval: &str) -> String {
    koodrive_simulator::Roster { accounts }.configuration(&upstream.url, interval)
}

const UP: &str = "koodrive_up{account=\"production\"}";
const POLLS: &str = "koodrive_polls_total{account=\"production\"}";

#[tokio::test]
async fn sighup_starts_what_is_new_ends_what_is_gone_and_leaves_the_rest_alone() {
    let mut scene = Scene::start(2, &[]).await;
    let finance = "koodrive_up{account=\"finance\"}";
    // From the second poll on, an account is polled at its own offset within the interval.
    let settled = |page: &Page| page.value(finance) == Some(1.0) && page.value(POLLS) >= Some(2.0);
    let before = scene.scrape_until(settled).await;
    scene.write(configuration(&scene.upstream, 3, "5s").replace("finance", "accounting"));
    scene.exporter.signal("-HUP");
    scene.exporter.line(|line| line.contains("3 accounts: 2 added, 0 changed, 1 removed")).await;
    let after = scene.scrape_until(|page| page.value("koodrive_up{account=\"archive\"}") == Some(1.0)).await;
    assert!(after.value(POLLS) >= before.value(POLLS), "its counters go on");
    assert_eq!(after.value(UP), Some(1.0));
    assert!(after.body.contains("account=\"accounting\"") && !after.body.contains("account=\"finance\""));
    assert_eq!(scene.exporter.get("/-/ready").await.status, 200);
    let last_attempt = "koodrive_poll_last_attempt_timestamp_seconds{account=\"production\"}";
    let schedule = |page: &Page| page.value(last_attempt).unwrap() % 5.0;
    let later = scene.scrape_until(|page| page.value(POLLS) > after.value(POLLS)).await;
    let shift = (schedule(&later) - schedule(&before)).abs();
    assert!(shift.min(5.0 - shift) < 0.5, "its schedule goes on");
}

#[tokio::test]
async fn an_account_that_changes_keeps_its_numbers_unless_it_is_another_one() {
    let scene = Scene::start(1, &["--web.enable-lifecycle"]).await;
    let before = scene.scrape_until(|page| page.value(UP) == Some(1.0)).await;
    scene.write(configuration(&scene.upstream, 1, "1h"));
    assert!(scene.post().await.body.contains("1 accounts: 0 added, 1 changed, 0 removed"));
    let page = scene.exporter.get("/metrics").await;
    assert_eq!(page.value("koodrive_poll_interval_seconds{account=\"production\"}"), Some(3600.0));
    assert_eq!(page.value(UP), Some(1.0));
    assert!(page.value(POLLS) >= before.value(POLLS) && page.body.contains("koodrive_space_used_bytes{"));
    scene.write(configuration(&scene.upstream, 1, "1h").replace("1505084218764547200", "1505084218764547201"));
    assert_eq!(scene.post().await.status, 200);
    let page = scene.exporter.get("/metrics").await;
    assert!(!page.body.contains("koodrive_space_used_bytes{"), "another user's numbers are not shown");
}

#[tokio::test]
async fn a_secret_that_rotates_beside_a_reload_is_counted() {
    let upstream = Scripted::start(|_, _| scripted::good(None)).await;
    let (files, shown) = (Files::new(), "koodrive_credential_rotations_total{account=\"production\"}");
    let token = files.write("token", "one");
    let yaml = upstream.configuration().replace("token: hunter2", "token_file: token").replace("200ms", "1s");
    let config = files.write("k.yml", &yaml);
    let mut exporter = Exporter::start(&config, &["--web.enable-lifecycle", "--log.level=debug"]).await;
    exporter.line_of_each(&["production"], "poll succeeded").await;
    std::fs::write(&token, "two").unwrap();
    files.write("k.yml", format!("language: zh-CN\n{yaml}"));
    let reloaded = Page::of(client().post(format!("{}/-/reload", exporter.url)).send().await.unwrap()).await;
    assert!(reloaded.body.contains("1 changed"), "{}", reloaded.body);
    for _ in 0..2 {
        exporter.line_of_each(&["production"], "poll succeeded").await;
    }
    assert_eq!(exporter.get("/metrics").await.value(shown), Some(1.0));
}

#[tokio::test]
async fn a_file_that_does_not_come_holds_up_neither_scrapes_nor_the_stop() {
    let mut scene = Scene::start(1, &["--web.enable-lifecycle"]).await;
    std::fs::remove_file(scene.files.path("k.yml")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(scene.files.path("k.yml")).status().unwrap().success());
    let answer = scene.post().await;
    assert!(answer.status == 500 && answer.body.contains("is no regular file"), "{}", answer.body);
    assert_eq!(scene.exporter.get("/metrics").await.status, 200);
    scene.exporter.signal("-TERM");
    scene.exporter.line(|line| line.contains("message=stopped")).await;
}

#[tokio::test]
async fn a_shard_stays_as_it_was_started() {
    let (files, upstream) = (Files::new(), Upstream::start(10).await);
    let of = |index: u32| format!("{}shard: {{ index: {index}, count: 2 }}\n", configuration(&upstream, 10, "5s"));
    let config = files.write("k.yml", of(0));
    let exporter = Exporter::start(&config, &["--web.enable-lifecycle"]).await;
    let scene = Scene { exporter, files, upstream: Upstream::start(1).await };
    let accounts = async || {
        let page = scene.exporter.get("/metrics").await;
        page.body
            .lines()
            .filter(|line| line.starts_with("koodrive_account_info{"))
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    let before = accounts().await;
    scene.write(of(1));
    for _ in 0..2 {
        assert!(scene.post().await.body.contains("these keys need a restart: shard"), "reported each time");
    }
    assert_eq!(accounts().await, before);
    scene.write(of(0));
    assert!(!scene.post().await.body.contains("restart"));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_reported_by_status_log_and_metrics() {
    let mut scene = Scene::start(1, &["--web.enable-lifecycle"]).await;
    scene.scrape_until(|page| page.value(UP) == Some(1.0)).await;
    scene.write("accounts: {}\npoll: { interval: 0s }\ntoken: hunter2");
    let answer = scene.post().await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("accounts: is empty") && answer.body.contains("poll.interval"), "{}", answer.body);
    let line = scene.exporter.line(|line| line.contains("keeping the previous configuration")).await;
    assert!(line.contains("level=error") && !line.contains("hunter2"), "{line}");
    let successful = "koodrive_exporter_config_last_reload_successful";
    let page = scene.scrape_until(|page| page.value(successful) == Some(0.0)).await;
    assert_eq!(page.value(UP), Some(1.0));
    std::fs::remove_file(scene.files.path("k.yml")).unwrap();
    assert_eq!(scene.post().await.status, 500);
    scene.write(configuration(&scene.upstream, 1, "5s"));
    assert_eq!(scene.post().await.status, 200);
    scene.scrape_until(|page| page.value(successful) == Some(1.0)).await;
}

#[tokio::test]
async fn a_request_to_reload_is_taken_where_it_is_allowed() {
    let off = Scene::start(1, &[]).await;
    assert_eq!(off.post().await.status, 403);
    let on = Scene::start(1, &["--web.enable-lifecycle"]).await;
    let put = client().put(format!("{}/-/reload", on.exporter.url)).send().await.unwrap();
    assert_eq!(put.status(), 200);
    let get = on.exporter.get("/-/reload").await;
    assert_eq!((get.status, get.header("allow")), (405, "POST, PUT"));
}

#[tokio::test]
async fn one_reload_is_for_all_requests_that_wait() {
    let mut scene = Scene::start(1, &["--web.enable-lifecycle"]).await;
    scene.write(configuration(&scene.upstream, 2000, "5s"));
    let posts: Vec<_> =
        (0..20).map(|_| tokio::spawn(client().post(format!("{}/-/reload", scene.exporter.url)).send())).collect();
    for answer in posts {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    scene.write("nonsense");
    scene.post().await;
    scene.exporter.line(|line| line.contains("keeping the previous configuration")).await;
    let reloads = scene.exporter.log().matches("configuration reloaded").count();
    assert!((1..20).contains(&reloads), "{reloads}");
}

#[tokio::test]
async fn a_change_of_the_file_is_followed_where_that_is_wanted() {
    let mut scene = Scene::start(1, &["--config.auto-reload"]).await;
    scene.write(configuration(&scene.upstream, 2, "5s"));
    scene.exporter.line(|line| line.contains("cause=\"file change\"")).await;
    scene.scrape_until(|page| page.value("koodrive_up{account=\"finance\"}") == Some(1.0)).await;
}

#[tokio::test]
async fn file_that_returns_to_its_old_content_after_another_reload_is_followed() {
    let scene = Scene::start(1, &["--config.auto-reload", "--web.enable-lifecycle"]).await;
    let (there, gone) = (scene.files.path("k.yml"), scene.files.path("gone.yml"));
    std::fs::rename(&there, &gone).unwrap();
    assert_eq!(scene.post().await.status, 500);
    std::fs::rename(&gone, &there).unwrap();
    let successful = "koodrive_exporter_config_last_reload_successful 1\n";
    scene.scrape_until(|page| page.body.contains(successful)).await;
}

#[tokio::test]
async fn file_that_cannot_be_read_any_more_is_reported_once_until_it_can() {
    let mut scene = Scene::start(1, &["--config.auto-reload"]).await;
    let (config, away) = (scene.files.path("k.yml"), scene.files.path("away.yml"));
    for (name, why) in [("folder", "no regular file"), ("pipe", "no regular file"), ("loop", "Too many levels")] {
        std::fs::rename(&config, &away).unwrap();
        match name {
            "folder" => std::fs::create_dir(&config).unwrap(),
            "pipe" => assert!(Command::new("mkfifo").arg(&config).status().unwrap().success()),
            _ => std::os::unix::fs::symlink("k.yml", &config).unwrap(),
        }
        let failed = |line: &str| line.contains("configuration reload failed") && line.contains(why);
        scene.exporter.line(failed).await;
        scene.scrape_until(|page| page.body.contains("koodrive_exporter_config_last_reload_successful 0\n")).await;
        let removed = if name == "folder" { std::fs::remove_dir(&config) } else { std::fs::remove_file(&config) };
        removed.unwrap();
        std::fs::rename(&away, &config).unwrap();
        scene.exporter.line(|line| line.contains("configuration reloaded")).await;
    }
    let failures = scene.exporter.log().matches("configuration reload failed").count();
    assert_eq!(failures, 3);
}

#[tokio::test]
async fn what_cannot_be_reloaded_is_named() {
    let mut scene = Scene::start(1, &["--web.enable-lifecycle"]).await;
    let config = configuration(&scene.upstream, 1, "5s");
    let config =
        config.replace("poll: {", "web: { telemetry_path: /other }\nlog: { level: debug }\npoll: { concurrency: 3,");
    scene.write(config);
    assert_eq!(scene.post().await.status, 200);
    scene
        .exporter
        .line(|line| {
            line.contains("changes need a restart") && line.contains("log.level, poll.concurrency, web.telemetry_path")
        })
        .await;
    assert_eq!(scene.exporter.get("/metrics").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_reloads_under_two_scrapers_fail_no_scrape_and_lose_no_count() {
    const RELOADS: usize = 200;
    let scene = Arc::new(Scene::start(4, &["--web.enable-lifecycle"]).await);
    scene.scrape_until(|page| page.value(UP) == Some(1.0)).await;
    let done = Arc::new(AtomicBool::new(false));
    let scraper = || {
        let (scene, done) = (Arc::clone(&scene), Arc::clone(&done));
        tokio::spawn(async move {
            let (mut polls, mut scrapes) = (0.0, 0);
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while !done.load(Ordering::Relaxed) {
                ticks.tick().await;
                let page = scene.exporter.get("/metrics").await;
                assert_eq!(page.status, 200);
                let now = page.value(POLLS).expect("production is always there");
                assert!(now >= polls, "a counter went back from {polls} to {now}");
                (polls, scrapes) = (now, scrapes + 1);
            }
            scrapes
        })
    };
    let scrapers = [scraper(), scraper()];
    let mut memory = Vec::new();
    for reload in 0..RELOADS {
        // The other accounts come and go, and each third file is bad.
        let bad = reload % 3 == 2;
        let config =
            if bad { "bad: yes".to_owned() } else { configuration(&scene.upstream, 2 + reload as u64 % 3, "5s") };
        scene.write(config);
        assert_eq!(scene.post().await.status, if bad { 500 } else { 200 });
        memory.push(scene.exporter.memory());
    }
    done.store(true, Ordering::Relaxed);
    for scraper in scrapers {
        assert!(scraper.await.unwrap() > 0);
    }
    let (early, late) = (memory[RELOADS / 4], memory[RELOADS - 1]);
    assert!(late < early + 4 * 1024 * 1024, "memory grew from {early} to {late}");
}

#[tokio::test]
async fn reloads_without_end_keep_each_accounts_schedule_values_and_counts() {
    let (files, upstream) = (Files::new(), Upstream::start(12).await);
    let patient = upstream.user_id(11);
    upstream.simulator.set_fault(&patient, Some(&Fault::RateLimited { retry_after: 86_400 }));
    let yaml = |language: &str| format!("language: {language}\n{}", upstream.configuration("1s"));
    let config = files.write("k.yml", yaml("en-US"));
    let exporter = Exporter::start(&config, &["--web.enable-lifecycle"]).await;
    let scene = Scene { exporter, files, upstream: Upstream::start(1).await };
    let values = |page: &Page| page.body.lines().filter(|line| line.starts_with("koodrive_space_used_bytes{")).count();
    let polls = |page: &Page| -> Vec<f64> {
        upstream
            .roster
            .accounts()
            .map(|account| page.value(&format!("koodrive_polls_total{{account=\"{}\"}}", account.alias)).unwrap())
            .collect()
    };
    let before = polls(&scene.scrape_until(|page| values(page) == 11).await);
    for reload in 0.. {
        scene.write(yaml(if reload % 2 == 0 { "zh-CN" } else { "en-US" }));
        assert_eq!(scene.post().await.status, 200);
        let page = scene.exporter.get("/metrics").await;
        assert_eq!(values(&page), 11, "no value vanishes");
        if polls(&page).iter().zip(&before).take(11).all(|(now, before)| now - before >= 5.0) {
            break;
        }
    }
    assert_eq!(upstream.simulator.record(&patient).unwrap().requests, 1, "Retry-After is remembered");
    let requests = |page: &Page| -> f64 {
        let counted = page.body.lines().filter(|line| line.starts_with("koodrive_exporter_api_requests_total{"));
        counted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let asked = || {
        upstream
            .roster
            .accounts()
            .map(|account| upstream.simulator.record(&account.user_id).unwrap().requests)
            .sum::<u64>() as f64
    };
    scene.scrape_until(|page| requests(page) == asked()).await;
}
