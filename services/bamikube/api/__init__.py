"""What objects are: the table of resources, schemas, defaults, validation, selectors, patches. Pure: no I/O."""
