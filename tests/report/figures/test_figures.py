import json
import os
import subprocess
import sys
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.report.figures import gates, losses, pareto, prompt_share, style, task_bars
from experiments.report.figures.drawn import Drawn
from experiments.report.figures.write import write_figures
from experiments.report.runs import Runs, read_runs
from tests.report.run_folders import write_run, write_scienceqa, write_squad, write_vtab
from zia_core.errors import ZiaError

FALLING = [2.3 - 0.01 * step for step in range(100)]


def runs_in(root: Path) -> Runs:
    for method, accuracy in (("zero-init", 60.0), ("full", 62.0), ("linear", 50.0)):
        for seed in (0, 1):
            for task in ("cifar10", "digits"):
                changes = {"losses": FALLING} if task == "cifar10" else {}
                write_vtab(root, method, task, seed, accuracy + seed, **changes)
    return read_runs([root])


def test_only_figures_whose_runs_exist_are_written(tmp_path: Path) -> None:
    paths, left_out = write_figures([tmp_path / "none"], tmp_path / "out")
    assert [path.name for path in paths] == ["paper-loss-curves.png", "paper-loss-curves.pdf"]
    assert [sentence.split(",")[0] for sentence in left_out] == [
        "left out: claims by profile",
        "left out: the paper's scores beside ours",
        "left out: score by task",
        "left out: score against tuned parameters",
        "left out: training loss",
        "left out: training loss with and without zero-initialisation",
        "left out: accuracy by inserted layers",
        "left out: over-fitting by epochs",
        "left out: gates by layer and head",
        "left out: share of the prompt term by layer and head",
    ]
    assert left_out[2].endswith(", which needs finished runs of vtab_vit")
    assert left_out[6].endswith(", which needs finished ablations of scienceqa")
    runs_in(tmp_path / "runs")
    paths, left_out = write_figures([tmp_path / "runs"], tmp_path / "out")
    names = {path.stem for path in paths}
    end = "vtab_vit-small-small-vit-full-v1"
    assert names == {
        "paper-loss-curves", f"tasks-{end}-small", f"parameters-{end}-small", f"losses-{end}-small",
    }  # fmt: skip
    assert len(left_out) == 7  # no claim has both methods, no task is known to count
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width == int(style.COLUMN * style.RESOLUTION)
                assert image.convert("L").getextrema() == (0, 255)
        else:
            assert path.read_bytes().startswith(b"%PDF")


def test_the_same_runs_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    runs_in(tmp_path / "runs")
    paths, _ = write_figures([tmp_path / "runs"], tmp_path / "out")
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\n")
    program = (
        "import sys, pathlib; from experiments.report.figures.write import write_figures;"
        "write_figures([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))"
    )
    environment = os.environ | {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "runs"), str(tmp_path / "again")],
        env=environment,
        cwd=tmp_path,  # where matplotlib finds that file
        check=True,
    )
    for path in paths:
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
        assert b"CreationDate" not in path.read_bytes()


def test_bars_have_a_point_for_every_seed(tmp_path: Path) -> None:
    write_vtab(tmp_path, "zero-init", "dtd10_96", 0, 30, result={"train_loss_last": 2.2})
    [drawn] = task_bars.draw(runs_in(tmp_path))
    panels = [panel for panel in drawn.figure.axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == [
        "DTD, 10 classes", "CIFAR-10", "digits 8x8",
    ]  # fmt: skip
    cifar = panels[1]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == [
        "zero-init",
        "full",
        "linear",
    ]
    assert [bar.get_width() for bar in cifar.patches] == pytest.approx([60.5, 62.5, 50.5])
    assert [sorted(line.get_xdata()) for line in cifar.lines] == [
        pytest.approx([60, 61]), pytest.approx([62, 63]), pytest.approx([50, 51]),
    ]  # fmt: skip
    untrained = panels[0].patches[0]
    assert untrained.get_hatch()
    assert "hatched: not trained" in drawn.figure.get_supxlabel()
    assert [text.get_text() for text in panels[0].texts] == ["30.0", "missing", "missing"]


def test_the_tasks_of_mini_stand_in_one_figure(tmp_path: Path) -> None:
    backbone = {"profile": "mini", "backbone": "pocket-vit"}
    for task in ("mini_digits", "mini_land", "mini_count"):
        for method in ("zero-init", "lora"):
            write_vtab(tmp_path, method, task, 0, 50, **backbone)
    runs = read_runs([tmp_path])
    [drawn] = task_bars.draw(runs)
    assert drawn.name == "tasks-vtab_vit-mini-pocket-vit-full-v1-mini"
    shown = [p.get_title(loc="left") for p in drawn.figure.axes if p.get_visible()]
    assert shown == ["digits 8x8", "land", "count"]
    assert "line: the paper" not in drawn.figure.get_supxlabel()
    write_vtab(tmp_path, "zero-init", "digits", 0, 50, **backbone)
    write_vtab(tmp_path, "lora", "digits", 0, 50, **backbone)
    names = [drawn.name for drawn in pareto.draw(read_runs([tmp_path]))]
    assert [name.rsplit("-", 1)[1] for name in names] == ["small", "mini"]


def test_official_tasks_show_the_paper_s_value_too(tmp_path: Path) -> None:
    write_vtab(tmp_path, "zero-init", "cifar", 0, 80, profile="paper")
    [drawn] = task_bars.draw(read_runs([tmp_path]))
    assert 82.2 in [line.get_xdata()[0] for line in drawn.figure.axes[0].lines]


def test_counts_are_short_and_side_by_side() -> None:
    assert [style.short_count(n) for n in (500, 20_000, 1_500_000, 7e9)] == [
        "500", "20k", "1.5M", "7G",
    ]  # fmt: skip
    _, panel = style.new(height=3.1)
    panel.plot([6_420, 82_112], [1, 2])
    style.log_counts(panel)
    low, high = panel.get_xlim()
    shown = [tick for tick in panel.get_xticks() if low <= tick <= high]
    assert shown == [10_000, 20_000, 50_000]
    assert [panel.xaxis.get_major_formatter()(tick) for tick in shown] == ["10k", "20k", "50k"]


def test_scores_stand_at_their_parameters(tmp_path: Path) -> None:
    for method, parameters, exact in (("lora", 150_000, 50), ("full", 22_000_000, 60)):
        result = {"tuned_parameters": parameters}
        write_squad(tmp_path, method, "squad-v1.1", 0, exact, result=result)
    flat = {"tuned_parameters": 700, "train_loss_last": 2.3}
    write_squad(tmp_path, "head", "squad-v1.1", 0, 5, result=flat)
    [drawn] = pareto.draw(read_runs([tmp_path]))
    [panel] = drawn.figure.axes
    means = {line.get_label(): line for line in panel.lines if line.get_label()[0] != "_"}
    at = {label: (line.get_xdata()[0], line.get_ydata()[0]) for label, line in means.items()}
    assert at == {
        "full": (22_000_000, 70), "lora": (150_000, 60), "head (not trained)": (700, 15),
    }  # fmt: skip
    assert means["head (not trained)"].get_markerfacecolor() == "white"


def test_a_task_that_does_not_count_is_in_no_mean(tmp_path: Path) -> None:
    for method, cifar10, digits in (("linear", 50, 70), ("zero-init", 60, 95), ("full", 62, 99)):
        write_vtab(tmp_path, method, "cifar10", 0, cifar10)
        write_vtab(tmp_path, method, "digits", 0, digits)
    [drawn] = pareto.draw(read_runs([tmp_path]))  # unknown without the control
    assert heights(drawn) == {"zero-init": 77.5, "full": 80.5, "linear": 60}
    assert drawn.figure.axes[0].get_title().endswith("\nmean of 2 tasks")
    write_vtab(tmp_path, "pixel-probe", "cifar10", 0, 30)
    write_vtab(tmp_path, "pixel-probe", "digits", 0, 96)
    [drawn] = pareto.draw(read_runs([tmp_path]))
    assert heights(drawn) == {"zero-init": 60, "full": 62, "linear": 50}
    assert drawn.figure.axes[0].get_title().endswith("\nCIFAR-10; not digits 8x8: does not count")
    write_vtab(tmp_path, "pixel-probe", "cifar10", 1, 90)
    assert list(pareto.draw(read_runs([tmp_path]))) == []


def heights(drawn: Drawn) -> dict[str, float]:
    lines = drawn.figure.axes[0].lines
    return {line.get_label(): line.get_ydata()[0] for line in lines if line.get_label()[0] != "_"}


def test_a_loss_far_above_the_backbone_s_is_named_and_not_drawn(tmp_path: Path) -> None:
    for method, loss in (("zero-init", 2.0), ("lora", 2.1), ("random-init", 11.36)):
        write_run(tmp_path, method, result={"val_loss": loss})
    write_run(tmp_path, "frozen", result={"val_loss": 2.5, "tuned_parameters": 0})
    [drawn] = pareto.draw(read_runs([tmp_path]))
    [panel] = drawn.figure.axes
    assert [text.get_text() for text in panel.texts] == ["off the scale: random-init (11.4)"]
    labels = [line.get_label() for line in panel.lines if line.get_label()[0] != "_"]
    assert labels == ["zero-init", "lora", "frozen"]


def test_losses_are_the_mean_over_seeds(tmp_path: Path) -> None:
    write_run(tmp_path, losses=[4.0, 2.0, 1.0, 9.0])
    write_run(tmp_path, seed=1, losses=[2.0, 1.0, 1.0])
    paper, ours = losses.draw(read_runs([tmp_path]))
    [line] = ours.figure.axes[0].lines
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == [3.0, 1.5, 1.0]
    zero, random = paper.figure.axes[0].lines
    assert (zero.get_ydata()[0], zero.get_ydata()[-1]) == (1.122, 0.004)
    assert (random.get_ydata()[0], random.get_ydata()[-1]) == (2.391, 0.123)


def test_gates_are_drawn_by_layer_and_head(tmp_path: Path) -> None:
    import torch

    from zia_core.adapters import packed

    run = write_vtab(tmp_path, "zero-init", "cifar10", 3, 60)
    values = {2: torch.tensor([0.5, -0.5]), 11: torch.tensor([0.0, 3.0])}
    tensors = {f"blocks.{n}.attn.zero_init.gate": gate for n, gate in values.items()}
    tensors["head.weight"] = torch.ones(2)
    about = {"method": "zero-init attention", "config": {"gate_activation": "tanh"}}
    (run / "adapter.safetensors").write_bytes(packed(tensors, about))
    [drawn] = gates.draw(read_runs([tmp_path]))
    panel, bar = drawn.figure.axes
    expected = np.tanh([[0.5, -0.5], [0.0, 3.0]])
    np.testing.assert_allclose(panel.images[0].get_array(), expected, rtol=1e-6)
    assert [text.get_text() for text in panel.get_yticklabels()] == ["2", "11"]
    assert panel.images[0].norm.vmax == -panel.images[0].norm.vmin
    assert "seed 3" in drawn.figure.get_suptitle()
    assert bar.get_ylabel() == "gate"


def write_gates(run: Path, evaluations: dict[int, object]) -> None:
    lines = [{"step": step, "eval": {}, "gates": found} for step, found in evaluations.items()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_recorded_gates_are_drawn_over_training_too(tmp_path: Path) -> None:
    run = write_vtab(tmp_path, "zero-init", "cifar10", 0, 60)
    recorded = {
        0: {"9": [0.0, 0.0], "10": [0.0, 0.0]},
        5: {"9": [0.1, -0.3], "10": [0.2, 0.2]},
        10: {"9": [0.4, -0.4], "10": [0.5, 0.1]},
    }
    write_gates(run, recorded)
    [drawn] = gates.draw(read_runs([tmp_path]))
    last, training, *_ = drawn.figure.axes
    np.testing.assert_allclose(last.images[0].get_array(), [[0.4, -0.4], [0.5, 0.1]])
    np.testing.assert_allclose(
        training.images[0].get_array(), [[0, 0.2, 0.4], [0, 0.2, 0.3]], atol=1e-12
    )
    assert [text.get_text() for text in training.get_xticklabels()] == ["0", "5", "10"]
    assert [text.get_text() for text in training.get_yticklabels()] == ["9", "10"]
    write_gates(run, {step: recorded[step] for step in (0, 10)})
    [drawn] = gates.draw(read_runs([tmp_path]))
    assert len(drawn.figure.axes) == 2  # two evaluations make no curve


def test_gates_are_those_of_the_method_with_images_where_there_is_one(tmp_path: Path) -> None:
    for method, size in (("zero-init-text", 0.1), ("zero-init", 0.3)):
        run = write_scienceqa(tmp_path, method, "own-split", 0, 40)
        write_gates(run, {120: {"2": [size, -size]}})
        [drawn] = gates.draw(read_runs([tmp_path]))
        np.testing.assert_allclose(drawn.figure.axes[0].images[0].get_array(), [[size, -size]])


@pytest.mark.parametrize("found", [[], {}, {"2": []}, {"2": [0.1], "3": [0.1, 0.2]}, {"2": "x"}])
def test_gates_that_are_none_are_named(tmp_path: Path, found: object) -> None:
    run = write_vtab(tmp_path, "zero-init", "cifar10", 0, 60)
    write_gates(run, {0: found})
    told = ", line 1: gates must be an object" if found == [] else ": .* by layer and head"
    with pytest.raises(ZiaError, match=rf"{run.name}/metrics\.jsonl{told}"):
        list(gates.draw(read_runs([tmp_path])))
    write_gates(run, {0: {"2": [0.1]}, 5: {"2": [0.1, 0.2]}})
    with pytest.raises(ZiaError, match="not as many in every evaluation"):
        list(gates.draw(read_runs([tmp_path])))


def test_the_share_of_the_prompts_is_drawn_of_the_first_seed_that_has_it(tmp_path: Path) -> None:
    write_vtab(tmp_path, "zero-init", "cifar10", 0, 60)  # recorded no gates
    other = write_vtab(tmp_path, "random-init", "cifar10", 0, 60)
    run = write_vtab(tmp_path, "zero-init", "cifar10", 1, 60)
    assert list(prompt_share.draw(read_runs([tmp_path]))) == []
    share = {"of": "images $for \\ nothing$", "share": {"10": [0.5, 0.2], "9": [0.1, 0.0]}}
    for folder in (run, other):
        (folder / "prompt_share.json").write_text(json.dumps(share))
    [drawn] = prompt_share.draw(read_runs([tmp_path]))
    panel, bar = drawn.figure.axes
    np.testing.assert_allclose(panel.images[0].get_array(), [[0.1, 0.0], [0.5, 0.2]])
    assert [text.get_text() for text in panel.get_yticklabels()] == ["9", "10"]
    assert panel.images[0].norm.vmin == 0
    assert "seed 1" in drawn.figure.get_suptitle()
    assert bar.get_ylabel() == "prompts / words"
    assert drawn.png
    assert drawn.pdf
    assert drawn.name == "prompt-share-vtab_vit-small-small-vit-full-v1-cifar10"


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("NaN", " is not valid JSON"),
        ("1e999", " is not valid JSON"),
        ('"most"', ": what is kept by layer and head"),
    ],
)
def test_a_damaged_share_is_named_or_left_out(tmp_path: Path, kept: str, told: str) -> None:
    run = write_vtab(tmp_path / "runs", "zero-init", "cifar10", 0, 60)
    (run / "prompt_share.json").write_text(f'{{"of": "images", "share": {{"2": [0.1, {kept}]}}}}')
    with pytest.raises(ZiaError, match=rf"prompt_share\.json{told}"):
        write_figures([tmp_path / "runs"], tmp_path / "out")
    _, left_out = write_figures([tmp_path / "runs"], tmp_path / "out", keep_going=True)
    assert left_out[-1].startswith(f"left out, because damaged: vtab_vit/{run.name}/prompt_share")


def test_no_two_methods_look_alike() -> None:
    assert len(set(style.LOOKS.values())) == len(style.LOOKS)
    both = {"full", "lora", "p-tuning-v2", "prompt-tuning", "zero-init", "head"}
    assert len({style.look(method)[:2] for method in both}) == len(both)


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", losses=[4.0, 2.0])
    run = write_run(tmp_path / "runs", seed=1, losses=[4.0])
    (run / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ZiaError, match=rf"{run.name}/metrics\.jsonl, line 1"):
        write_figures([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    paths, left_out = write_figures([tmp_path / "runs"], tmp_path / "out", keep_going=True)
    assert any(path.name.startswith("losses-alpaca_llama") for path in paths)
    damaged = f"left out, because damaged: alpaca_llama/{run.name}/metrics.jsonl, line 1"
    assert left_out[-1].startswith(damaged)


def test_a_figure_has_no_date_and_no_version() -> None:
    with style.styled():
        figure, panel = style.new()
        panel.plot([1, 2])
    with Image.open(BytesIO(style.png(figure))) as image:
        assert "Software" not in image.info
    assert b"Matplotlib" not in style.pdf(figure)


def test_a_legend_that_is_too_wide_has_fewer_columns() -> None:
    with style.styled():
        for count, columns in ((3, 3), (20, 2)):
            figure, panel = style.new(height=3.1)
            for name in "abcdef":
                panel.plot([1], [1], label=name * count)
            style.legend_below(figure, panel, 3)
            [legend] = figure.legends
            assert legend._ncols == columns
            assert legend.get_window_extent().width <= figure.bbox.width


def test_titles_that_are_too_wide_are_smaller() -> None:
    name = "vit_base_patch16_clip_quickgelu_224.int8, "
    with style.styled():
        for columns, title in ((1, name * 3), (3, name), (3, "short")):
            figure, panels = style.new(2 * style.COLUMN, ncols=columns, squeeze=False)
            for panel in panels[0]:
                panel.set_ylabel("score")
                panel.set_title(title)
            overall = figure.suptitle(name * 4 if title == name else title)
            style.png(figure)
            figure.set_dpi(style.RESOLUTION)
            figure.draw_without_rendering()
            around = [panel.title.get_window_extent() for panel in panels[0]]
            for text in (*around, overall.get_window_extent()):
                assert text.x0 >= 0
                assert text.x1 <= figure.bbox.width
            assert all(a.x1 < b.x0 for a, b in pairwise(around))
            size = panels[0][0].title.get_fontsize()
            assert size == 8 if title == "short" else 4 < size < 8


def test_a_title_without_end_has_the_smallest_size() -> None:
    with style.styled():
        figure, panel = style.new()
        panel.set_title("endless" * 200)
        assert style.png(figure)
        assert 3.8 < panel.title.get_fontsize() <= style.SMALLEST_TITLE
