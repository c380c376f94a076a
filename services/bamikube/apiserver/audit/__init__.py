"""Audit: a record of who asked what, when, and what came of it.

::

    request ──policy.py: how much of it?──► trail.py: events of its stages ──► log.py       a file, rotated
                                                                          └──► collector.py  a webhook, in batches

Nothing here runs without ``--audit-policy-file``.

Source: Kubernetes' "Auditing", the API reference of audit.k8s.io/v1.
"""
