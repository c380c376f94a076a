"""Custom resources: what a CustomResourceDefinition says, compiled into what the generic handler asks of a row.

- :mod:`bamikube.api.custom.family` makes rows of a definition;
- :mod:`bamikube.api.custom.kind` is what such a row carries;
- :mod:`~bamikube.api.custom.pruning`, :mod:`~bamikube.api.custom.defaulting`, :mod:`~bamikube.api.custom.values`,
  :mod:`~bamikube.api.custom.lists` and :mod:`~bamikube.api.custom.embedded` are the steps an object goes through, each
  compiled once into closures;
- :mod:`~bamikube.api.custom.structural` judges schemas, :mod:`~bamikube.api.custom.naming` decides which names a
  definition gets, :mod:`~bamikube.api.custom.published` writes the schemas that clients see.
"""
