"""Generated from proto/ by proto/generate.py. Never edited by hand."""
