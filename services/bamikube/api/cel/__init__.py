"""CEL, Kubernetes' language for rules in objects.

- :mod:`bamikube.api.cel.environment` compiles an expression against variables and object types;
- :mod:`bamikube.api.cel.tree` is the checked syntax tree;
- :mod:`bamikube.api.cel.evaluate` runs it, counting what it costs; :mod:`bamikube.api.cel.functions` are its functions;
- :mod:`bamikube.api.cel.schemas` turns schemas into types and objects into values;
- :mod:`bamikube.api.cel.cost` estimates what an expression may cost at most.
"""
