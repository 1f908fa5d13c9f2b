"""The classification tasks of the generated world, in VTAB-1k's format."""

from experiments.images.tasks import Task

# In VTAB's three groups; the digits are the real ones of `small`, fewer of them. "other": not in
# the plan, shapes since the pocket ViT was trained to name them, position since no method that was
# tried on its val200 left chance in as few steps.
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
