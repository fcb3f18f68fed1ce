"""Ask the teachers about one view of every training example, once for all students."""
