"""Pod specs come in series: a new version of a Deployment differs from the last one in an image, and so do its pods.

Whatever does not look at images may remember a spec by :func:`mark_but_images`, and needs not be asked about the next of
the series. Worked example: ``{"containers": [{"name": "web", "image": "web:1"}]}`` has the mark of the same with
``web:2``, but not of one without an image, nor of one whose image is a number: what is no text is part of the mark.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.memory import mark_of

POD_SPEC = "io.k8s.api.core.v1.PodSpec"
KINDS = ("containers", "initContainers")


def mark_but_images(spec: dict[str, Any]) -> bytes:
    """A digest of a spec's JSON without the texts of its containers' images. Nothing when it has none."""
    rest = dict(spec)
    named = ""
    for kind in KINDS:
        given = spec.get(kind)
        if type(given) is not list:
            continue
        bare: list[Any] = []
        for each in given:
            if type(each) is dict and type(each.get("image")) is str and each["image"]:
                each = each.copy()
                del each["image"]
                named += "1"
            else:
                named += "0"
            bare.append(each)
        rest[kind] = bare
    return mark_of([named, rest])
