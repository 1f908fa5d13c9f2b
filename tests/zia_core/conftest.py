"""Fixtures that these tests share with other folders."""

from tests.child_processes import file_size_limit, start_child

__all__ = ["file_size_limit", "start_child"]
