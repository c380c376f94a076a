"""bamictl: the kubectl-compatible client.

:mod:`bamikube.cli.main` finds the verb and imports only its file in ``verbs/``; a new verb is one new file there and
one line in the list of main. Beside them: where to connect (``kubeconfig``), how (``connection``), what resources
there are (``resources``), how results look (``printers``, ``jsonpath``).

Start-up is what people feel: nothing here imports asyncio or aiohttp. Requests go over ``http.client``, which does
all a command needs, and the whole of ``bamictl get`` imports in well under a tenth of a second.
"""

from __future__ import annotations
