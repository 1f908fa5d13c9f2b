from collections import Counter

import pytest

from experiments.mini_world.image_tasks import MINI
from experiments.vtab_vit.tasks import SMALL, TASKS, VTAB_1K, get
from zia_core.errors import ZiaError


def test_vtab_1k_is_19_tasks_in_three_groups() -> None:
    assert Counter(task.group for task in VTAB_1K) == {
        "natural": 7,
        "specialized": 4,
        "structured": 8,
    }
    assert {(task.train, task.val, task.metric) for task in VTAB_1K} == {(800, 200, "top1")}
    classes = [task.classes for task in VTAB_1K]
    assert classes == [100, 102, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9]
    by_group = Counter[str]()
    for task in VTAB_1K:
        by_group[task.group] += task.test
    assert by_group == {"natural": 75_564, "specialized": 87_138, "structured": 225_202}


def test_our_own_tasks_are_marked_as_none_of_vtab_s() -> None:
    assert [task.name for task in SMALL] == [
        "caltech101_96",
        "dtd10_96",
        "cifar10",
        "digits",
        "fashion_mnist",
    ]
    assert all(task.official for task in VTAB_1K)
    assert not any(task.official for task in SMALL + MINI)
    assert len(TASKS) == 32  # so no folder has two meanings


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    assert get("kitti").title == "KITTI/distance"
    with pytest.raises(ZiaError, match=r"no task 'kity'; choose from: cifar, caltech101, .*digits"):
        get("kity")
