"""From bytes to raw examples and back; each codec refuses what it cannot read with one sentence.

400 says that the bytes cannot be read, 422 that they can and do not fit the model.
"""
