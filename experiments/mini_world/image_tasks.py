"""The classification tasks of the generated world, in VTAB-1k's format."""

from experiments.images.tasks import Task

# In VTAB's three groups; digits are the real ones of `small`, but fewer. "other" is not planned:
# the pocket ViT was trained to name shapes, and on the val200 of position no method tried rises
# above chance in so few steps.
MINI = (
    Task("mini_digits", "digits 8x8", "mini-natural", classes=10, test=500),
    Task("mini_shapes", "shapes", "mini-other", classes=6, test=500),
    Task("mini_creatures", "creatures", "mini-natural", classes=8, test=500),
    Task("mini_cells", "cells", "mini-specialized", classes=4, test=500),
    Task("mini_land", "land", "mini-specialized", classes=6, test=500),
    Task("mini_count", "count", "mini-structured", classes=6, test=500),
    Task("mini_position", "position", "mini-other", classes=9, test=500),
    Task("mini_orientation", "orientation", "mini-structured", classes=8, test=500),
)
