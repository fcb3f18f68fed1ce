"""Takes a package to a fleet of devices in waves, and takes it back when it does not do well.

What is written to the bucket is signed (TUF) and is the authority; devices poll it, and their
signed reports decide whether the next wave opens.
"""
