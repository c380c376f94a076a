"""What is in the lab's images, and under which names they are served.

A recipe is data: Debian packages, a few files of our own, the image's configuration, names. Images made from
Debian's ``nginx`` answer for several tags of ``nginx``, because courses and manifests name them; what is really
inside stands in the label ``org.opencontainers.image.version``, and each tag carries its own name as a label, so a
rolling update from one to another is a real change of image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bamikube.lab.images.layer import Directory, Entry, File, Link
from bamikube.lab.images.pause import pause_program

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Documentation, translations and build-time files have no place in an image.
SKIP = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/info", "usr/share/bug",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv", "usr/share/bash-completion",
    "usr/share/menu", "usr/share/applications", "usr/share/pixmaps", "usr/share/python3", "usr/share/zsh",
    "etc/init.d", "etc/logrotate.d", "etc/ufw", "etc/default", "lib/systemd", "etc/cron.daily",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """One manifest of a recipe: the names it answers to and what of the configuration differs."""

    names: tuple[str, ...]
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one image is made. Layers: the packages' files, then ``files`` on top."""

    name: str
    variants: tuple[Variant, ...]
    packages: tuple[str, ...] = ()
    files: Mapping[str, Entry] = field(default_factory=dict)
    busybox: bool = False  # whether busybox's applets are linked into /bin
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = (_PATH,)
    ports: tuple[str, ...] = ()
    workdir: str = ""
    stop_signal: str = ""
    certificates: bool = False  # whether a bundle of public CAs is written


_USERS: dict[str, Entry] = {
    "etc/passwd": File(
        b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        b"www-data:x:33:33:www-data:/var/www:/bin/false\nnginx:x:101:101:nginx:/nonexistent:/bin/false\n"
        b"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "etc/group": File(b"root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnginx:x:101:\nnogroup:x:65534:\n"),
    "etc/nsswitch.conf": File(b"passwd: files\ngroup: files\nhosts: files dns\n"),
    "root": Directory(0o700),
    "tmp": Directory(0o1777),
    "var/tmp": Directory(0o1777),
    "etc": Directory(),
    "run": Directory(),
    "home": Directory(),
}

_NGINX_CONF = b"""user nginx;
worker_processes 1;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                    '"$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
    access_log /var/log/nginx/access.log main;
    sendfile on;
    keepalive_timeout 65;
    client_body_temp_path /var/cache/nginx/client_temp;
    proxy_temp_path /var/cache/nginx/proxy_temp;
    fastcgi_temp_path /var/cache/nginx/fastcgi_temp;
    uwsgi_temp_path /var/cache/nginx/uwsgi_temp;
    scgi_temp_path /var/cache/nginx/scgi_temp;
    include /etc/nginx/conf.d/*.conf;
}
"""

_NGINX_SITE = b"""server {
    listen 80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
    error_page 500 502 503 504 /50x.html;
    location = /50x.html { root /usr/share/nginx/html; }
}
"""

_NGINX_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page comes from a container of your Bamikube cluster. Put your own files into /usr/share/nginx/html.</p>
</body>
</html>
"""

_NGINX_ERROR = b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Something went wrong.</h1></body></html>\n"

_NGINX_TAGS = (
    ("latest", "stable", "mainline", "1"),
    ("alpine", "stable-alpine"),
    ("1.25", "1.25.0", "1.25.3"),
    ("1.26", "1.26.0"),
    ("1.27", "1.27.0"),
    ("1.14.2", "1.14"),
    ("1.16.1", "1.16"),
    ("1.7.9",),
    ("1.9.1",),
    ("1.21", "1.22", "1.23", "1.24"),
)


def _nginx() -> Recipe:
    variants = tuple(
        Variant(
            tuple(f"nginx:{tag}" for tag in tags),
            env=(f"NGINX_TAG={tags[0]}",),
            labels={"io.bamikube.tag": tags[0]},
        )
        for tags in _NGINX_TAGS
    )
    return Recipe(
        "nginx",
        variants,
        packages=("nginx", "busybox-static", "bash"),
        files=_USERS
        | {
            "etc/nginx/nginx.conf": File(_NGINX_CONF),
            "etc/nginx/conf.d/default.conf": File(_NGINX_SITE),
            "usr/share/nginx/html/index.html": File(_NGINX_PAGE),
            "usr/share/nginx/html/50x.html": File(_NGINX_ERROR),
            "var/log/nginx/access.log": Link("/dev/stdout"),
            "var/log/nginx/error.log": Link("/dev/stderr"),
            "var/cache/nginx": Directory(),
            "run": Directory(),
        },
        busybox=True,
        cmd=("nginx", "-g", "daemon off;"),
        ports=("80/tcp",),
        stop_signal="SIGQUIT",
    )


def _busybox() -> Recipe:
    tags = ("latest", "1.36", "1.35", "1.28", "1", "stable", "glibc", "musl", "uclibc")
    return Recipe(
        "busybox",
        (Variant(tuple(f"busybox:{tag}" for tag in tags)),),
        packages=("busybox-static",),
        files=_USERS,
        busybox=True,
        cmd=("sh",),
    )


def _course() -> Recipe:
    variants = []
    for application in ("app", "init", "shopping", "customer", "order"):
        for version in ("v1", "v2"):
            name = f"kubetm/{application}"
            names = (f"{name}:{version}", f"{name}:latest") if version == "v1" else (f"{name}:{version}",)
            variants.append(Variant(names, env=(f"APP_NAME={application}", f"APP_VERSION={version}")))
    source = Path(__file__).with_name("course_app.py").read_bytes()
    return Recipe(
        "course",
        tuple(variants),
        packages=("python3-minimal", "busybox-static"),
        files=_USERS | {"app/app.py": File(source)},
        busybox=True,
        cmd=("python3", "-I", "/app/app.py"),
        ports=("8080/tcp",),
        workdir="/app",
    )


def _client() -> Recipe:
    return Recipe(
        "client",
        (Variant(("bamikube/client:latest", "bamikube/client:v1")),),
        packages=("curl", "bash", "busybox-static", "ca-certificates"),
        files=_USERS,
        busybox=True,
        cmd=("bash",),
        certificates=True,
    )


def _pause(architecture: str) -> Recipe:
    names = tuple(
        f"registry.k8s.io/pause:{tag}" for tag in ("3.10", "3.9", "3.8", "3.7", "3.6", "3.5", "latest")
    )
    return Recipe(
        "pause",
        (Variant((*names, "bamikube/pause:latest")),),
        files={"pause": File(pause_program(architecture), 0o755)},
        entrypoint=("/pause",),
    )


def all_recipes(architecture: str) -> tuple[Recipe, ...]:
    """Every image of the lab, for ``amd64`` or ``arm64``."""
    return (_pause(architecture), _busybox(), _nginx(), _course(), _client())
