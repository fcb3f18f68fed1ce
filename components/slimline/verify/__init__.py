"""Check a package before it is released: signature, verdict, files, and that it infers."""
