"""A real Prometheus scrapes the example of the exporter toolkit, by TLS and as a user.

Usage: toolkit.py EXAMPLE
"""

import pathlib
import subprocess
import sys
import tempfile

import bcrypt

from servers import Prometheus, wait_until

PASSWORD = "only for this check"


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        certificate = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        names = ["-subj", "/CN=example", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
        subprocess.run(["openssl", "req", "-x509", *certificate, *names, *files], check=True, capture_output=True)
        password_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
        (folder / "web.yml").write_text(
            f"tls_server_config: {{ cert_file: cert.pem, key_file: key.pem }}\nbasic_auth_users: {{ scraper: '{password_hash}' }}\n"
        )
        flags = ["--web.listen-address=127.0.0.1:0", f"--web.config.file={folder / 'web.yml'}"]
        example = subprocess.Popen([sys.argv[1], *flags], stdout=subprocess.PIPE, text=True)
        address = example.stdout.readline().removeprefix("listening on ").strip()
        (folder / "prometheus.yml").write_text(f"""
scrape_configs:
  - job_name: example
    scrape_interval: 1s
    scheme: https
    tls_config: {{ ca_file: {folder / 'cert.pem'} }}
    basic_auth: {{ username: scraper, password: "{PASSWORD}" }}
    static_configs: [{{ targets: ["{address}"] }}]
""")
        try:
            with Prometheus(folder / "prometheus.yml", folder / "data") as prometheus:
                found = wait_until("the gauge", lambda: prometheus.query('room_temperature_celsius{room="kitchen"}'))
                assert found[0]["value"][1] == "21.5", found
                assert prometheus.query('up{job="example"}')[0]["value"][1] == "1"
        finally:
            example.kill()
            example.wait()
    print("Prometheus scraped the toolkit's example by TLS as a user")


if __name__ == "__main__":
    main()
