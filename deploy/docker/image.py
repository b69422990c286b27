"""Writes the container image: a static program and its licence, and nothing else.

Usage: image.py OUTPUT REVISION ARCHITECTURE=PROGRAM...

The archive is an OCI image layout that also has Docker's `manifest.json`, so `docker load` and `podman load` both take
it. Its index has one image per architecture. Manifests are of Docker's media type, which has a field for the health
check; Podman ignores the health check of the OCI type. SOURCE_DATE_EPOCH is the time of every file, so the same inputs
give the same bytes. The image holds no certificates: the program has its own copy of the public authorities.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import struct
import sys
import tarfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = datetime.datetime.fromtimestamp(EPOCH, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
USER = "65532:65532"
PROGRAM = "/usr/bin/koodrive-exporter"
LICENCE = "/usr/share/doc/koodrive-exporter/LICENSE"
SECOND = 1_000_000_000
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ELF_MACHINES = {"amd64": 62, "arm64": 183}
ELF_INTERPRETER = 3


def as_json(value):
    return json.dumps(value, indent=2, sort_keys=True).encode()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tar(files):
    """A tar archive of `files`, by path: content and mode."""
    folders = {str(parent) for path in files for parent in pathlib.PurePosixPath(path).parents} - {"/", "."}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as writer:
        for path in sorted([*folders, *files]):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mtime = EPOCH
            if path in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                writer.addfile(entry)
            else:
                content, entry.mode = files[path]
                entry.size = len(content)
                writer.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def read_program(path, architecture):
    """The program, which must be a static one for this architecture."""
    program = pathlib.Path(path).read_bytes()
    if program[:4] != b"\x7fELF" or struct.unpack_from("<H", program, 18)[0] != ELF_MACHINES[architecture]:
        sys.exit(f"{path}: is not a program for {architecture}")
    (start,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    if ELF_INTERPRETER in [struct.unpack_from("<L", program, start + size * index)[0] for index in range(count)]:
        sys.exit(f"{path}: is not static")
    return program


class Layout:
    """The files of an OCI image layout."""

    def __init__(self):
        self.files = {"oci-layout": (as_json({"imageLayoutVersion": "1.0.0"}), 0o644)}

    def add(self, media_type, content):
        """Stores a blob and returns its descriptor."""
        name = digest(content)
        self.files["blobs/" + name.replace(":", "/")] = (content, 0o644)
        return {"mediaType": media_type, "digest": name, "size": len(content)}


def labels(package, revision):
    return {
        "org.opencontainers.image.title": package["name"],
        "org.opencontainers.image.description": package["description"],
        "org.opencontainers.image.licenses": package["license"],
        "org.opencontainers.image.source": package["repository"],
        "org.opencontainers.image.version": package["version"],
        "org.opencontainers.image.revision": revision,
    }


def config(architecture, layer, image_labels):
    """Must agree with the last stage of the Dockerfile."""
    return {
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": {
            "User": USER,
            "ExposedPorts": {"10710/tcp": {}},
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": [PROGRAM],
            "WorkingDir": "/",
            "Labels": image_labels,
            "Healthcheck": {
                "Test": ["CMD", PROGRAM, "healthcheck"],
                "Interval": 30 * SECOND,
                "Timeout": 5 * SECOND,
                "StartPeriod": 5 * SECOND,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": CREATED, "created_by": "deploy/docker/image.py"}],
    }


def add_image(layout, architecture, program, image_labels):
    """Adds the image of one architecture; returns its manifest's descriptor and its entry in Docker's list."""
    licence = (ROOT / "LICENSE").read_bytes()
    layer = tar({PROGRAM: (program, 0o755), LICENCE: (licence, 0o644)})
    layer_descriptor = layout.add(DOCKER_LAYER, gzip.compress(layer, 9, mtime=0))
    config_descriptor = layout.add(DOCKER_CONFIG, as_json(config(architecture, layer, image_labels)))
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": config_descriptor,
        "layers": [layer_descriptor],
    }
    descriptor = layout.add(DOCKER_MANIFEST, as_json(manifest))
    descriptor["platform"] = {"os": "linux", "architecture": architecture}
    path = lambda blob: "blobs/" + blob["digest"].replace(":", "/")
    return descriptor, {"Config": path(config_descriptor), "Layers": [path(layer_descriptor)]}


def main():
    output, revision, *programs = sys.argv[1:]
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())
    package = {**package["package"], **package["workspace"]["package"]}
    image_labels = labels({key: package[key] for key in ("name", "description", "license", "repository", "version")}, revision)
    name = f"{package['name']}:{package['version']}"
    layout = Layout()
    images = []
    for argument in programs:
        architecture, _, path = argument.partition("=")
        images.append(add_image(layout, architecture, read_program(path, architecture), image_labels))
    manifests = [descriptor for descriptor, _ in images]
    # The index names one list, not each image: a loader then chooses by the architecture of its host.
    image_list = layout.add(
        DOCKER_LIST, as_json({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": manifests})
    )
    image_list["annotations"] = {
        "io.containerd.image.name": f"docker.io/library/{name}",
        "org.opencontainers.image.ref.name": name,
        "org.opencontainers.image.created": CREATED,
        **image_labels,
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image_list]}
    layout.files["index.json"] = (as_json(index), 0o644)
    # Docker's own list has no architectures: it names the first image.
    layout.files["manifest.json"] = (as_json([{**images[0][1], "RepoTags": [name]}]), 0o644)
    pathlib.Path(output).write_bytes(tar(layout.files))


if __name__ == "__main__":
    main()
