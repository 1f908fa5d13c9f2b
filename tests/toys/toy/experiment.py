"""The toy experiment where `$ZIA_EXPERIMENTS` finds it: for workers in processes of their own."""

from tests.harness.toy import EXPERIMENT

__all__ = ["EXPERIMENT"]
