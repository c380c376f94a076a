"""What the node agent looks at before it begins, and what it says to do about what is missing."""
