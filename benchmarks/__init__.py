"""What Spark costs, as ratios: each figure is measured against a baseline that runs in turn with it.

A ratio survives a slow or busy machine, which no figure in milliseconds does; nothing here fails because
something was slow.
"""
