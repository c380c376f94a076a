"""From recipes to images: fetch packages, lay out files, write OCI content, once.

What was built is remembered by a key, the hash of everything an image depends on (recipe, package versions,
this code's format number), so a second run only compares keys. Independent images are made side by side; the slow
part, ``apt-get download``, is one call for all of them.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from bamikube.lab.images import debian
from bamikube.lab.images.layer import File, Layer, Link
from bamikube.lab.images.names import full_name
from bamikube.lab.images.recipes import SKIP, Recipe, all_recipes
from bamikube.lab.images.store import CONFIG, LAYER, MANIFEST, Descriptor, ImageStore

# Raised when the way images are written changes: everything is then made anew.
FORMAT = 1

_EPOCH = "2020-01-01T00:00:00Z"


def recipe_key(recipe: Recipe, packages: Iterable[debian.Package]) -> str:
    """A hash of all that decides what the image will be."""
    parts = [
        str(FORMAT),
        repr(recipe),
        *(f"{package.name}={package.version}" for package in packages),
        repr(SKIP),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _static_key(recipes: Iterable[Recipe]) -> str:
    """A hash of the recipes alone, without asking apt: good enough to know that nothing of ours changed."""
    return hashlib.sha256("\0".join([str(FORMAT), repr(SKIP), *map(repr, recipes)]).encode()).hexdigest()


def build_all(
    store: ImageStore, cache: Path, say: Callable[[str], None] = lambda text: None, *, refresh: bool = False
) -> int:
    """Make every image that is missing or whose recipe changed. Returns how many were made.

    With ``refresh``, newer Debian package versions count as a change too. Raises debian.AptError.
    """
    architecture = debian.architecture()
    recipes = all_recipes(architecture)
    keys_file = store.folder / "recipes.json"
    keys: dict[str, str] = orjson.loads(keys_file.read_bytes()) if keys_file.is_file() else {}
    names = store.names()
    complete = all(
        full_name(name) in names
        for recipe in recipes
        for variant in recipe.variants
        for name in variant.names
    )
    static = _static_key(recipes)
    if complete and not refresh and keys.get("*") == static:
        return 0
    with store.writing(), ThreadPoolExecutor(4) as pool:
        try:
            closures, files = _gather(recipes, cache, pool.map, say)
        except debian.AptError as error:
            say(f"images: {str(error).splitlines()[0]}; fetching the package lists")
            debian.update()
            closures, files = _gather(recipes, cache, pool.map, say)
        stale = [
            recipe
            for recipe in recipes
            if keys.get(recipe.name) != recipe_key(recipe, closures[recipe.name])
            or any(full_name(name) not in names for variant in recipe.variants for name in variant.names)
        ]

        def make(recipe: Recipe) -> dict[str, Descriptor]:
            say(f"images: {recipe.name}")
            debs = {package.name: files[package.name] for package in closures[recipe.name]}
            return build(recipe, debs, store, architecture)

        for additions in pool.map(make, stale):
            store.tag(additions)
    for recipe in stale:
        keys[recipe.name] = recipe_key(recipe, closures[recipe.name])
    keys["*"] = static
    keys_file.write_bytes(orjson.dumps(keys, option=orjson.OPT_INDENT_2))
    store.sweep()
    return len(stale)


def _gather(
    recipes: Sequence[Recipe], cache: Path, run: Callable[..., Iterable[Any]], say: Callable[[str], None]
) -> tuple[dict[str, list[debian.Package]], dict[str, Path]]:
    """Each recipe's packages, and the files of all of them."""
    closures = dict(
        zip(
            (recipe.name for recipe in recipes),
            run(lambda recipe: debian.closure(recipe.packages), recipes),
            strict=True,
        )
    )
    everything = {package.name: package for packages in closures.values() for package in packages}
    say(f"images: {len(everything)} Debian packages")
    return closures, debian.fetch(everything.values(), cache / "debs")


def build(
    recipe: Recipe, debs: dict[str, Path], store: ImageStore, architecture: str
) -> dict[str, Descriptor]:
    """Write one recipe's content and say which names point where. The names are not set yet."""
    layers = [_add_layer(store, layer) for layer in _layers(recipe, debs)]
    versions = ", ".join(deb.name.split("_")[1] for name, deb in debs.items() if name in recipe.packages[:1])
    additions: dict[str, Descriptor] = {}
    for variant in recipe.variants:
        labels = {
            "org.opencontainers.image.title": recipe.name,
            "org.opencontainers.image.vendor": "Bamikube",
            "org.opencontainers.image.version": versions.replace("%3a", ":"),
            **variant.labels,
        }
        runtime: dict[str, Any] = {
            "Env": [*recipe.env, *variant.env],
            "Labels": {k: v for k, v in labels.items() if v},
        }
        if recipe.entrypoint:
            runtime["Entrypoint"] = list(recipe.entrypoint)
        if recipe.cmd:
            runtime["Cmd"] = list(recipe.cmd)
        if recipe.ports:
            runtime["ExposedPorts"] = {port: {} for port in recipe.ports}
        if recipe.workdir:
            runtime["WorkingDir"] = recipe.workdir
        if recipe.stop_signal:
            runtime["StopSignal"] = recipe.stop_signal
        config = store.add_json(
            {
                "architecture": architecture,
                "os": "linux",
                "created": _EPOCH,
                "config": runtime,
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
                "history": [
                    {"created": _EPOCH, "created_by": f"bamikube recipe {recipe.name}"} for _ in layers
                ],
            },
            CONFIG,
        )
        manifest = store.add_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.as_json(),
                "layers": [layer.as_json() for layer in layers],
            },
            MANIFEST,
        )
        additions.update({full_name(name): manifest for name in variant.names})
    return additions


def _add_layer(store: ImageStore, layer: Layer) -> Descriptor:
    return store.add_bytes(layer.tar(), LAYER)


def _layers(recipe: Recipe, debs: dict[str, Path]) -> list[Layer]:
    layers: list[Layer] = []
    with tempfile.TemporaryDirectory(prefix="bamikube-image-") as folder:
        root = Path(folder, "root")
        for deb in debs.values():
            debian.unpack(deb, root)
        if debs:
            _merge_usr(root)
            base = Layer()
            base.add_tree(root, SKIP)
            if recipe.busybox:
                _link_busybox(base, root)
            if recipe.certificates:
                bundle = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
                data = b"".join(path.read_bytes().rstrip() + b"\n" for path in bundle)
                base.entries["etc/ssl/certs/ca-certificates.crt"] = File(data)
            # What the recipe writes itself must not be in the layer below, or it would be stored twice.
            for path in recipe.files:
                base.entries.pop(path, None)
            layers.append(base)
    top = Layer()
    top.add(recipe.files)
    layers.append(top)
    return layers


def _merge_usr(root: Path) -> None:
    """Debian 12's merged /usr: /bin, /sbin, /lib and /lib64 are links into /usr, whatever a package was built with."""
    for name in ("bin", "sbin", "lib", "lib64"):
        old, new = root / name, root / "usr" / name
        if old.is_dir() and not old.is_symlink():
            new.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", f"{old}/.", str(new)], check=True)
            subprocess.run(["rm", "-rf", str(old)], check=True)
        if not old.exists():
            new.mkdir(parents=True, exist_ok=True)
            old.symlink_to(f"usr/{name}")


def _link_busybox(layer: Layer, root: Path) -> None:
    """Every applet that no package brings as a program of its own becomes a link to busybox."""
    binary = root / "usr/bin/busybox"
    applets = subprocess.run(
        [str(binary), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    taken = {Path(path).name for path in layer.entries if path.startswith(("usr/bin/", "usr/sbin/"))}
    for applet in applets:
        if applet not in taken and applet not in ("dpkg", "dpkg-deb", "rpm", "init", "linuxrc"):
            layer.entries[f"usr/bin/{applet}"] = Link("busybox")
