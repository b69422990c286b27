//! No credential anywhere, at the most talkative level, through success and every failure.

use crate::{
    failures::{SECRET, Scene},
    support::{run, stderr},
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
    assert!(log.contains("withheld: it repeats the credential"), "the upstream did repeat one");
    shown.push(log);
    for text in shown {
        for secret in [SECRET, "Signature=", "Bearer", "AppId="] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is shown");
        }
    }
}
