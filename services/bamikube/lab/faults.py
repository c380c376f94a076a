"""Errors whose message says all a person at the terminal needs: shown without a traceback."""

from __future__ import annotations

from bamikube.lab.hostnet import NetworkError
from bamikube.lab.images.archive import BadArchive
from bamikube.lab.images.debian import AptError
from bamikube.lab.kubelet import NotAConfiguration
from bamikube.lab.launch import LaunchError
from bamikube.lab.machine import Busy, OtherLab
from bamikube.lab.nodefiles import MissingTemplate
from bamikube.lab.topology import UnknownNode
from bamikube.lab.verbs import LabError
from bamikube.pki.kubeconfig import KubeconfigError

SAID: tuple[type[Exception], ...] = (
    LabError,
    NetworkError,
    BadArchive,
    AptError,
    LaunchError,
    Busy,
    OtherLab,
    MissingTemplate,
    NotAConfiguration,
    KubeconfigError,
    UnknownNode,
    PermissionError,
)
