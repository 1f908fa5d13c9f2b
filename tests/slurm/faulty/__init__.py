"""Experiments for `$ZIA_EXPERIMENTS`: real training, made to be disturbed."""
