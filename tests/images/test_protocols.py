"""Golden pixels of every protocol, computed by hand, and parity with timm and torchvision."""

import io
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from experiments.images.protocols import PROTOCOLS, get
from experiments.images.task_folder import load_task
from experiments.vtab_vit.loaded_task import pixels
from tests.vtab_vit.folders import TINY, grey, png, write_tiny
from zia_core.errors import ZiaError

MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])


def image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def photograph(width: int, height: int) -> Image.Image:
    """A smooth image with an edge and some noise, different in each channel."""
    generator = torch.Generator().manual_seed(5)
    y = torch.linspace(0, 6, height)[None, :, None]
    x = torch.linspace(0, 9, width)[None, None, :]
    wave = torch.sin(x + y * torch.tensor([1.0, 0.7, 1.3])[:, None, None])
    value = 128 + 90 * wave + 20 * torch.randn(3, height, width, generator=generator)
    value[:, :, : width // 3] /= 2
    array = value.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array)


def test_vpt_golden_pixels() -> None:
    """A row of [0, 200] to four columns: column i lies at i * 2/4 = 0, 0.5, 1, 1.5.

    Between the pixels at 0 and 1 that is 0, 100, 200; beyond the last pixel 200 again. (With pixel
    centres aligned, as everybody else does it, it would be 0, 50, 150, 200.) Then, in red,
    (100 / 255 - 0.485) / 0.229 = -0.405429.
    """
    out = get("vpt", 4)(image(grey(0, 200)))
    values = torch.tensor([0.0, 100.0, 200.0, 200.0])
    for channel in range(3):
        row = (values / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(out[channel], row.expand(4, 4), rtol=0, atol=1e-6)
    assert out[0, 2, 1].item() == pytest.approx(-0.405429, abs=1e-6)


def test_vpt_shrinks_without_averaging() -> None:
    """Four columns to two: i * 4/2 = 0 and 2, so these two pixels and nothing of the others."""
    out = get("vpt", 2)(image(grey(10, 90, 50, 170)))
    expected = (torch.tensor([10.0, 50.0]) / 255 - 0.485) / 0.229
    torch.testing.assert_close(out[0], expected.expand(2, 2), rtol=0, atol=1e-6)


def test_vpt_mixes_the_four_nearest_and_rounds_nothing() -> None:
    """2 x 2 to 3 x 3: (1, 1) lies at (2/3, 2/3).

    Above: 0 + 90 * 2/3 = 60; below: 30 + (201 - 30) * 2/3 = 144; 60 + 84 * 2/3 = 116.
    (2, 2) lies at (4/3, 4/3), so at 1/3 past the last pixel: 201. (1, 2) is 90 + 111 * 2/3 = 164.
    """
    corners = [[(0,) * 3, (90,) * 3], [(30,) * 3, (201,) * 3]]
    out = get("vpt", 3)(image(png(corners)))
    values = (out[1] * 0.224 + 0.456) * 255
    expected = torch.tensor([[0.0, 60.0, 90.0], [20.0, 116.0, 164.0], [30.0, 144.0, 201.0]])
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-3)


def cubic(distance: float) -> float:
    """Pillow's bicubic kernel: that of Keys with a = -0.5."""
    d = abs(distance)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def test_raw_golden_pixels() -> None:
    """A row of [0, 200] to four columns, whose centres lie at 0.25, 0.75, 1.25, 1.75.

    The two pixels have theirs at 0.5 and 1.5. From 0.75 they are 0.25 and 0.75 away:
    k(0.25) = 0.8671875, k(0.75) = 0.2265625, sum 1.09375, so 200 * 0.2265625 / 1.09375 = 41.43.
    From 0.25 they are 0.25 and 1.25 away: k(1.25) = -0.0703125, sum 0.796875, so
    200 * -0.0703125 / 0.796875 = -17.6, cut off at 0. The other two mirror these: 200 - 41.43 and
    200 + 17.65. Rounded to whole values, then divided by 255 and nothing else.
    """
    assert (cubic(0.25), cubic(0.75), cubic(1.25)) == (0.8671875, 0.2265625, -0.0703125)
    out = get("raw", 4)(image(grey(0, 200)))
    expected = torch.tensor([0.0, 41.0, 159.0, 218.0]) / 255
    assert torch.equal(out, expected.expand(3, 4, 4))


def test_raw_averages_when_it_shrinks() -> None:
    """Four columns to one: the kernel is stretched by 4, the centre is 2; weights by hand."""
    values = (10, 90, 50, 170)
    weights = [cubic((column + 0.5 - 2) / 4) for column in range(4)]
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    out = get("raw", 1)(image(grey(*values)))
    assert out[0, 0, 0].item() * 255 == pytest.approx(math.floor(mean + 0.5), abs=1e-4)


def test_fact_is_raw_s_pixels_in_imagenet_s_normalisation() -> None:
    out = get("fact", 4)(image(grey(0, 200)))
    values = torch.tensor([0.0, 41.0, 159.0, 218.0])
    for channel in range(3):
        row = (values / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(out[channel], row.expand(4, 4), rtol=0, atol=1e-6)


def test_half_golden_pixels() -> None:
    """30 x 20 to 18: the shorter side becomes floor(18 / 0.9) = 20, which it is, so only the crop
    is seen. It begins at column (30 - 18) / 2 = 6 and row (20 - 18) / 2 = 1. Red counts columns,
    green rows, blue is 255: (255 / 255 - 0.5) / 0.5 = 1.
    """
    out = get("half", 18)(image(png([[(x, y, 255) for x in range(30)] for y in range(20)])))
    columns = (torch.arange(6, 24) / 255 - 0.5) / 0.5
    rows = (torch.arange(1, 19) / 255 - 0.5) / 0.5
    torch.testing.assert_close(out[0], columns.expand(18, 18), rtol=0, atol=1e-6)
    torch.testing.assert_close(out[1], rows[:, None].expand(18, 18), rtol=0, atol=1e-6)
    assert torch.equal(out[2], torch.ones(18, 18))


SIZES = [(300, 200), (200, 333), (97, 96), (32, 32), (28, 41)]


@pytest.mark.parametrize("resolution", [224, 32])
@pytest.mark.parametrize("size", SIZES)
def test_half_is_timm_s_own_transform(size: tuple[int, int], resolution: int) -> None:
    from timm.data import create_transform
    from timm.models import get_pretrained_cfg

    for name in ("vit_base_patch16_224.augreg_in21k", "vit_base_patch16_224.orig_in21k"):
        published = get_pretrained_cfg(name)
        assert published is not None
        theirs = create_transform(
            (3, resolution, resolution),
            is_training=False,
            interpolation=published.interpolation,
            mean=published.mean,
            std=published.std,
            crop_pct=published.crop_pct,
            crop_mode=published.crop_mode,
        )
        assert torch.equal(get("half", resolution)(photograph(*size)), theirs(photograph(*size)))


@pytest.mark.parametrize("name", ["fact", "raw"])
@pytest.mark.parametrize("size", SIZES)
def test_squashing_is_torchvision_s(size: tuple[int, int], name: str) -> None:
    from torchvision import transforms

    steps = [
        transforms.Resize((64, 64), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
    ]
    if name == "fact":
        steps.append(transforms.Normalize(MEAN.tolist(), STD.tolist()))
    theirs: Tensor = transforms.Compose(steps)(photograph(*size))
    assert torch.equal(get(name, 64)(photograph(*size)), theirs)


def test_the_line_under_a_table_tells_the_protocols_apart() -> None:
    lines = [get(name).describe() for name in PROTOCOLS]
    assert len(set(lines)) == len(PROTOCOLS) == 5
    assert lines[0] == (
        "vpt (VPT): squashed to 224x224, tensorflow1-bilinear; "
        "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"
    )
    assert "shorter side to 248, middle 224x224" in get("half").describe()
    assert get("raw", 32).describe().endswith("squashed to 32x32, pillow-bicubic; [0, 1]")


def test_wrong_names_and_sizes_are_refused() -> None:
    with pytest.raises(ZiaError, match="no protocol 'vtp'; choose from: vpt, fact, half, raw"):
        get("vtp")
    with pytest.raises(ZiaError, match="resolution=0 is not a number of pixels"):
        get("vpt", 0)


def test_a_batch_is_its_examples_in_order(tmp_path: Path) -> None:
    data = load_task(TINY, write_tiny(tmp_path / "tiny"))
    protocol = get("raw", 2)
    batch = pixels(data.test, protocol)
    assert (batch.shape, batch.dtype) == ((3, 3, 2, 2), torch.float32)
    # Columns are 10 N and 5 for image N = 6, 7, 8; at two columns nothing is resized sideways.
    assert (batch[:, 0, 1, 0] * 255).round().tolist() == [60, 70, 80]
    assert (batch[:, 2, 0, 1] * 255).round().tolist() == [5, 5, 5]
