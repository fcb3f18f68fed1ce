"""Where a package leaves: verified, stored under its digest, read back and checked."""
