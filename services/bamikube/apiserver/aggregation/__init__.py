"""Aggregation: group versions that another API server answers, under the same roof.

::

    APIService v1beta1.metrics.k8s.io -> service kube-system/metrics-server:443
        availability.py  is it there, does it answer?          -> condition Available
        documents.py     what it offers                        -> joins /apis, /openapi/v2, /openapi/v3
        proxying.py      /apis/metrics.k8s.io/v1beta1/...      -> sent on, the user's name in X-Remote-User

Every group version that is served here has an APIService too (``Local``), kept by registration.py.

Source: Kubernetes' "Kubernetes API Aggregation Layer" and "Configure the Aggregation Layer".
"""
