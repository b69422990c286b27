[ -d /run/systemd/system ] && systemctl daemon-reload || true
# An upgrade, which the running service takes.
[ "$1" -lt 2 ] || [ ! -d /run/systemd/system ] || systemctl try-restart koodrive-exporter.service || true
