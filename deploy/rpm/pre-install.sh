getent group koodrive-exporter >/dev/null || groupadd --system koodrive-exporter
getent passwd koodrive-exporter >/dev/null ||
    useradd --system --gid koodrive-exporter --no-create-home --home-dir / --shell /sbin/nologin koodrive-exporter
