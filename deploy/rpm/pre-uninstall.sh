if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now koodrive-exporter.service koodrive-exporter.socket || true
fi
