"""Kubernetes' protobuf on the wire: tables of messages, and codecs made from them. See :mod:`bamikube.api.protobuf`."""

from __future__ import annotations
