//! Whatever a client sends, by HTTP/1 or HTTP/2, the listener answers it with HTTP or nothing, and ends.

#![no_main]

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, UNIX_EPOCH},
};

use exporter_toolkit::{Exporter, Options, Routes, serve_connection};
use koodrive_exporter::{clock::WallClock, collector::KooDrive, metrics::{Exposition, OwnMetrics}};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let _runtime = RUNTIME.enter();
    let exposition = Exposition { store: Arc::default(), own: Arc::new(OwnMetrics::new(0.0).unwrap()) };
    let clock = WallClock(Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_795_573_716)));
    Exporter::new(KooDrive::new(exposition, clock, None)).routes(&Options::default()).unwrap()
});

fuzz_target!(|input: (bool, &[u8])| {
    let (http2, request) = input;
    RUNTIME.block_on(async {
        let (server, client) = duplex(1 << 16);
        let serving = tokio::spawn(serve_connection(server, http2, ROUTES.clone()));
        let (mut read, mut write) = tokio::io::split(client);
        let sending = async move {
            let _ = write.write_all(request).await;
            let _ = write.shutdown().await;
        };
        let mut answer = Vec::new();
        let (_, _) = tokio::join!(sending, read.read_to_end(&mut answer));
        let _ = serving.await.unwrap();
        assert!(http2 || answer.is_empty() || answer.starts_with(b"HTTP/1."));
    });
});
