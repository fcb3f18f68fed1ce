"""Say yes or no to exact bytes, with reasons, and sign it: nothing leaves without this answer."""
