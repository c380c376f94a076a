"""API priority and fairness: a flood of one user's requests does not slow another's.

::

    request -> who is it about? (classify: the first flow schema that matches, and a flow within it)
            -> its priority level has free seats: go on at once
               none free: wait in one of the level's queues; the flows take turns; or 429, try again later

Source: Kubernetes' "API Priority and Fairness" (KEP-1040).
"""

from bamikube.apiserver.flow.control import FlowControl, Pass

__all__ = ["FlowControl", "Pass"]
