"""Images: their names, who may pull them, pulling, and removing what nobody uses."""
